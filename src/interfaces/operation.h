// One collective operation as the data plane sees it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "hora/types.hpp"

namespace hora {

// Two independent sequences of operations: calls in program order, and the response log of the negotiated front. Each
// has its own slots, so that they never wait for each other.
enum class Channel : std::uint8_t { ordered, negotiated };
inline constexpr int kChannelCount = 2;
inline constexpr Channel kChannels[] = {Channel::ordered, Channel::negotiated};

// Of the last operation that ended on each channel.
using Positions = std::array<std::uint64_t, kChannelCount>;

// What ranks must agree on for one operation. Travels with the operation's first flag or header and is compared before
// any algorithm is chosen, so a disagreement is the same error on every rank.
struct Signature {
  Collective kind = Collective::barrier;
  DataType dtype = DataType::uint8;
  ReduceOp op = ReduceOp::sum;  // sum where the collective does not reduce
  Rank root{0};                 // 0 where the collective has no root
  std::uint64_t count = 0;      // elements each rank contributes, over all extents; below 2^40

  // All fields in 64 bits, without loss: kind 4, dtype 4, op 4, root 12, count 40.
  [[nodiscard]] constexpr std::uint64_t pack() const noexcept {
    static_assert(kRanksMost == 1 << 12);
    return static_cast<std::uint64_t>(kind) | static_cast<std::uint64_t>(dtype) << 4 |
           static_cast<std::uint64_t>(op) << 8 | static_cast<std::uint64_t>(root.value & 0xfff) << 12 | count << 24;
  }
  static constexpr Signature unpack(std::uint64_t bits) noexcept {
    return {static_cast<Collective>(bits & 15), static_cast<DataType>(bits >> 4 & 15),
            static_cast<ReduceOp>(bits >> 8 & 15), Rank{static_cast<std::int32_t>(bits >> 12 & 0xfff)}, bits >> 24};
  }
  friend bool operator==(const Signature&, const Signature&) = default;
};

// One tensor of an operation. Memory belongs to the caller until the operation ends. Either source == target (in place)
// or they do not overlap. For an allgather `bytes` is one rank's contribution and `target` holds size() times as much,
// in rank order; in place means that the source is where the rank's own part of the target is. For a broadcast the
// root's source is read and every other rank's target is written.
struct Extent {
  const std::byte* source = nullptr;
  std::byte* target = nullptr;
  std::size_t bytes = 0;
};

struct Operation {
  Channel channel = Channel::ordered;
  std::uint64_t sequence = 0;  // 1, 2, 3, ... on each channel, without gaps, over all views
  Signature signature;
  std::span<const Extent> extents;  // several: a fused group. The bytes add up to signature.count elements
};

}  // namespace hora
