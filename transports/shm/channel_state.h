// One channel of a ShmGroup: the operation it works on and how far that is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "hora/view.hpp"
#include "interfaces/group_transport.h"
#include "transports/shm/extent_list.h"
#include "transports/shm/layout.h"

namespace hora::shm {

// How bytes are cut for a chunked algorithm; the same on every member.
struct Chunking {
  std::size_t bytes = 0;  // of the whole
  std::size_t chunk = 1;  // of a chunk
  std::uint64_t chunks = 0;
  int parts = 1;  // slices of a chunk

  [[nodiscard]] std::size_t begin(std::uint64_t c) const noexcept { return c * chunk; }
  [[nodiscard]] std::size_t end(std::uint64_t c) const noexcept { return std::min(bytes, (c + 1) * chunk); }
  // Positions of slice `part` of chunk `c` in the whole; may be empty.
  [[nodiscard]] ExtentList::Range slice(std::uint64_t c, int part) const noexcept {
    const std::size_t first = begin(c);
    const std::size_t length = end(c) - first;
    const auto count = static_cast<std::size_t>(parts);
    const std::size_t each = round_up((length + count - 1) / count, kLine);
    const std::size_t from = std::min(length, each * static_cast<std::size_t>(part));
    return {first + from, first + std::min(length, from + each)};
  }
};

enum class Algorithm : std::uint8_t {
  one_shot,  // everything at once, from flag lines or one-shot stages
  two_shot,  // allreduce in chunks; the unit is (chunk, slice)
  streamed,  // broadcast and allgather in chunks
};

enum class Phase : std::uint8_t {
  idle,
  entering,  // started, but some member has not entered this view yet: nothing has been written
  arriving,  // own flag is up; ranks below `arrived` have been seen
  moving,    // everybody has arrived and agrees
  ended,     // `outcome` holds
};

struct ChannelState {
  int channel = 0;
  Phase phase = Phase::idle;
  Algorithm algorithm = Algorithm::one_shot;
  Step outcome = Step::done;
  bool disagree = false;  // some rank below `arrived` has another signature
  int arrived = 0;
  int contributors = 0;
  std::uint64_t done = 0;      // last operation that ended here
  std::uint64_t sequence = 0;  // of the present or last operation
  std::uint64_t packed = 0;    // its signature
  Signature signature;
  ExtentList extents;
  std::vector<const std::byte*> sources;  // scratch: one for each rank
  std::vector<Signature> signatures;      // after a mismatch

  // Of a chunked algorithm. Counts of chunks; those of peers are what was last seen, and exact reports are made of
  // them.
  struct Peer {
    std::uint64_t copied = 0;
    std::uint64_t stored = 0;
    std::uint64_t gathered = 0;
    std::uint64_t taken = 0;  // of its results, by this member
  };
  Chunking chunking;
  std::uint64_t copied = 0;
  std::uint64_t stored = 0;
  std::uint64_t gathered = 0;  // from every peer
  std::vector<Peer> peers;     // one for each rank; the own entry is unused

  [[nodiscard]] bool active() const noexcept {
    return phase == Phase::entering || phase == Phase::arriving || phase == Phase::moving;
  }
};

// Chunks that a progress word stands for in operation `sequence`.
constexpr std::uint64_t chunks_of(std::uint64_t word, std::uint64_t sequence, std::uint64_t all) noexcept {
  const auto ahead = static_cast<std::int64_t>(word - (sequence << 32));
  return ahead < 0 ? 0 : std::min<std::uint64_t>(static_cast<std::uint64_t>(ahead), all);
}

}  // namespace hora::shm
