// Picks from a sequence of ready tensors those of one group: the first, and what can be executed together with it.
#pragma once

#include <cstdint>
#include <vector>

#include "interfaces/board.h"
#include "negotiation/request.h"

namespace hora::negotiation {

class Fusion {
 public:
  // `bytes_max` of a group of several tensors; 0: there is none of several.
  explicit Fusion(std::uint64_t bytes_max) noexcept : bytes_max_(bytes_max) {}

  void clear() noexcept;
  // Offered in the order in which they were submitted; a tensor that would not fit closes the group, so that no later
  // one overtakes it for ever.
  void offer(TensorId id, const Request& request);
  // Nothing that is submitted later can join.
  [[nodiscard]] bool full() const noexcept { return full_; }
  [[nodiscard]] const std::vector<TensorId>& group() const noexcept { return group_; }

 private:
  std::uint64_t bytes_max_;
  std::vector<TensorId> group_;
  Signature signature_;  // of the group so far
  bool full_ = false;
};

}  // namespace hora::negotiation
