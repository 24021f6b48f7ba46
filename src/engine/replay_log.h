// What passes from a donor to the newcomer that follows it: the state at a step boundary, then everything that the
// donor's calls returned since, so that the newcomer's own program can catch up (protocol law 10).
//
// A stream of frames: u32 bytes of the head, the head, and then, where the head says so, that many bytes of payload.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>

#include "base/wire.h"
#include "hora/hora.hpp"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/operation.h"

namespace hora::engine {

// The registered state follows as payload.
struct SnapshotEntry {
  wire::Bytes description;
  View view;           // what the donor's application sees
  std::uint64_t step;  // the boundary
  std::uint64_t bytes = 0;
};
// A call or a named work that ended. The result, if there is one, follows as payload.
struct ResultEntry {
  bool named = false;
  std::string name;
  Status status;
  Outcome outcome;
  Signature signature;
  std::uint64_t bytes = 0;
};
// The donor's application crossed this boundary.
struct BoundaryEntry {
  std::uint64_t step = 0;
};
// The donor installed this view.
struct ViewEntry {
  View view;
};

using LogEntry = std::variant<SnapshotEntry, ResultEntry, BoundaryEntry, ViewEntry>;

// The frame without its payload.
wire::Bytes encode_entry(const LogEntry& entry);
// Of a head (without its length).
Result<LogEntry> decode_entry(std::span<const std::byte> head);
inline constexpr std::size_t kHeadBytesMax = std::size_t{64} << 20;  // a description of some 100,000 tensors

// What the newcomer says back, 16 bytes each: it has crossed boundary `step`, and is linked to all members of `epoch`.
struct Progress {
  std::uint64_t step = 0;
  Epoch epoch;
};
inline constexpr std::size_t kProgressBytes = 16;
wire::Bytes encode_progress(const Progress& progress);
Progress decode_progress(std::span<const std::byte> bytes);

}  // namespace hora::engine
