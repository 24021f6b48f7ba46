#include "base/version.h"

namespace hora {

std::string_view version() noexcept { return HORA_VERSION; }

}  // namespace hora
