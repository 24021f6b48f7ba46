// Negotiation without messages, where members share memory: each posts what it is ready for, the coordinator posts the
// response log. Not thread safe: whoever holds the engine's token calls it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "hora/types.hpp"

namespace hora {

// Names a tensor within one view; given out by its coordinator, dense from 0.
using TensorId = std::uint32_t;
// Most tensors of one group.
inline constexpr std::size_t kGroupTensorsMax = 256;

class Board {
 public:
  virtual ~Board() = default;

  // Tensors that can have a ready word.
  [[nodiscard]] virtual std::uint32_t capacity() const = 0;
  // This member has now submitted tensor `id` `submissions` times in this view.
  virtual void post_ready(TensorId id, std::uint32_t submissions) = 0;
  // What `rank` has posted for `id` in this view; 0 at first.
  [[nodiscard]] virtual std::uint32_t ready(Rank rank, TensorId id) const = 0;

  // Coordinator only: the group at `position` (1, 2, ... in this view) of the response log. False when the log is full:
  // some member has not read the entry that this one would overwrite; try again later.
  virtual bool append(std::uint64_t position, std::span<const TensorId> group) = 0;
  // Reads the group at `position` into `group`. False when it has not been posted yet. Positions are read in order.
  virtual bool read(std::uint64_t position, std::vector<TensorId>& group) = 0;
};

}  // namespace hora
