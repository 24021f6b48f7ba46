#include "transports/shm/extent_list.h"

namespace hora::shm {

void ExtentList::borrow(std::span<const Extent> extents) {
  extents_ = extents;
  index();
}

void ExtentList::keep_only(std::span<const Range> ranges) {
  std::vector<Extent> kept;
  for (const Range& range : ranges) {
    for_each(range.begin, range.end, [&](const Extent& extent, std::size_t offset, std::size_t bytes, std::size_t) {
      kept.push_back({extent.source + offset, extent.target + offset, bytes});
    });
  }
  owned_ = std::move(kept);
  extents_ = owned_;
  index();
}

void ExtentList::index() {
  bytes_ = 0;
  if (extents_.size() == 1) {
    bytes_ = extents_[0].bytes;
    return;
  }
  starts_.clear();
  for (const Extent& extent : extents_) {
    starts_.push_back(bytes_);
    bytes_ += extent.bytes;
  }
}

}  // namespace hora::shm
