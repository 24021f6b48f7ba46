// The extents of an operation as one range of bytes, so that a fused group is walked straight between tensors and
// stage.
#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include "interfaces/operation.h"

namespace hora::shm {

// Borrows the extents, or owns the pieces of them that a view change left to do. Keeps its memory between operations.
class ExtentList {
 public:
  // `extents` must stay valid.
  void borrow(std::span<const Extent> extents);
  // Keeps only these ranges, given as ascending disjoint [begin, end) of the present bytes.
  struct Range {
    std::size_t begin, end;
  };
  void keep_only(std::span<const Range> ranges);

  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool in_place() const noexcept {
    return std::any_of(extents_.begin(), extents_.end(),
                       [](const Extent& e) { return e.source == e.target && e.bytes > 0; });
  }

  // Calls visit(extent, offset in it, bytes, position in the whole) for each piece of [begin, end), in order.
  template <typename Visit>
  void for_each(std::size_t begin, std::size_t end, Visit&& visit) const {
    if (begin >= end) return;
    std::size_t i = extents_.size() == 1 ? 0 : index_of(begin);
    while (begin < end) {
      const Extent& extent = extents_[i];
      const std::size_t first = extents_.size() == 1 ? 0 : starts_[i];
      const std::size_t bytes = std::min(end, first + extent.bytes) - begin;
      if (bytes > 0) visit(extent, begin - first, bytes, begin);
      begin += bytes;
      ++i;
    }
  }

 private:
  void index();
  // The last extent that begins at or before `position` and is not empty.
  [[nodiscard]] std::size_t index_of(std::size_t position) const noexcept {
    return static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin()) - 1;
  }

  std::span<const Extent> extents_;
  std::vector<Extent> owned_;
  std::vector<std::size_t> starts_;  // position of each extent; unused for a single one
  std::size_t bytes_ = 0;
};

}  // namespace hora::shm
