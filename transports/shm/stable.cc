// What is known to be DONE at every member of the view.
#include <algorithm>

#include "transports/shm/group.h"

namespace hora::shm {

std::uint64_t ShmGroup::stable(Channel channel) const {
  std::uint64_t least = ~std::uint64_t{0};
  for (const Segment* member : members_) {
    const auto& lines = member->lines().channels[static_cast<std::size_t>(channel)];
    // acquire: a member's result is in its targets when it says so.
    least = std::min(least, lines.done.value.load(std::memory_order_acquire));
  }
  return least;
}

}  // namespace hora::shm
