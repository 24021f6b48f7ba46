#include "transports/control/peer_link.h"

#include <fmt/format.h>

namespace hora::control {

std::string local_address_of(MemberId id) {
  return fmt::format("unix:@hora-{:016x}", id.value);
}

}  // namespace hora::control
