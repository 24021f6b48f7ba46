// The memory that members share in the simulator: each writes its own segment only, peers read it, and it outlives its
// writer. Flags become visible to each reader after a delay of its own; slots are read as they are.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "hora/types.hpp"
#include "interfaces/operation.h"

namespace hora::sim {

// One bit for each founding member: which contributions an element holds.
using Contributions = std::uint32_t;

// What an operation staged and reduced, for peers to pull. Two for each channel, used in turn.
struct Slot {
  Epoch epoch;
  std::uint64_t sequence = 0;
  std::vector<Contributions> staged;  // by element
  std::vector<Contributions> reduced;
};

// Belongs to a slot: a peer that is one operation behind still finds the flag of its own.
struct SlotFlags {
  Epoch epoch;
  std::uint64_t sequence = 0;
  std::uint64_t reduced = 0;  // units that the writer has reduced and stored
};

struct Flags {
  Epoch ready;  // the writer has finished what the install of this view committed
  std::array<std::array<SlotFlags, 2>, kChannelCount> slots;

  [[nodiscard]] SlotFlags& of(Channel channel, std::uint64_t sequence) {
    return slots[static_cast<std::size_t>(channel)][sequence % 2];
  }
  [[nodiscard]] const SlotFlags& of(Channel channel, std::uint64_t sequence) const {
    return slots[static_cast<std::size_t>(channel)][sequence % 2];
  }
};

struct Segment {
  Flags flags;
  std::array<std::array<Slot, 2>, kChannelCount> slots;
};

using Memory = std::vector<Segment>;  // by index of the node

}  // namespace hora::sim
