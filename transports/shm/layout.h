// What a member's shared segment holds and where. One writer, its owner; everybody else maps it read-only.
//
// Whatever one side polls while the other writes has 128 bytes of its own: two lines, because processors prefetch the
// neighbour of a line.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "hora/types.hpp"
#include "interfaces/operation.h"

namespace hora::shm {

inline constexpr std::size_t kStride = 128;
inline constexpr std::size_t kLine = 64;         // bytes of a cache line; slices of a chunk begin at multiples of it
inline constexpr std::size_t kInlineBytes = 48;  // payload that travels in the flag line itself
inline constexpr int kFlagSlots = 4;             // flag lines of a channel: operation s uses slot s % 4
inline constexpr int kOneShotSlots = 2;          // operation s uses slot s % 2: s - 1 stays until all are at s
inline constexpr int kChunkSlots = 4;            // chunk c uses slot c % 4
// Longest last record: two decisions, each with the members, the names of a fused group, and what was rejected and not
// heard by all. A thousand members, the longest group and hundreds of rejections fit in half of it.
inline constexpr std::size_t kRecordBytes = 512 << 10;
inline constexpr std::uint32_t kBoardTensors = 4096;         // ready words
inline constexpr std::uint32_t kLogEntries = 1024;           // groups of the response log that can wait to be read
inline constexpr std::uint32_t kLogIds = 4 * kBoardTensors;  // tensors in all of them

// Sizes that all members of a job share.
struct SegmentLayout {
  std::uint32_t chunk_bytes = 256 << 10;    // largest chunk of the pipelined algorithms; multiple of 128
  std::uint32_t one_shot_bytes = 64 << 10;  // largest one-shot payload; multiple of 64
  friend bool operator==(const SegmentLayout&, const SegmentLayout&) = default;
};

// (epoch, sequence), matched by equality. 2^40 operations in a view and 2^24 views before a tag comes again.
constexpr std::uint64_t make_tag(Epoch epoch, std::uint64_t sequence) noexcept {
  return epoch.value << 40 | (sequence & ((std::uint64_t{1} << 40) - 1));
}

struct alignas(kStride) FlagLine {
  std::atomic<std::uint64_t> tag;  // released after signature and payload (and the one-shot stage) were written
  std::uint64_t signature;
  std::byte payload[kInlineBytes];
};

// Progress within chunked operations: sequence << 32 | chunks, ever growing within a view.
struct alignas(kStride) ProgressLine {
  std::atomic<std::uint64_t> copied;    // chunks in the in-stage
  std::atomic<std::uint64_t> stored;    // chunks of results in the out-stage
  std::atomic<std::uint64_t> gathered;  // chunks whose results were taken from every peer
};

template <typename T>
struct alignas(kStride) Padded {
  std::atomic<T> value;
};

struct ChannelLines {
  std::array<FlagLine, kFlagSlots> flags;
  ProgressLine progress;
  Padded<std::uint64_t> done;  // last operation that is DONE here; read by who waits for STABLE
};

struct alignas(kStride) RecordSlot {
  std::atomic<std::uint64_t> bytes;
  std::array<std::atomic<std::uint64_t>, kRecordBytes / 8> words;
};

struct alignas(kLine / 2) LogEntry {
  std::atomic<std::uint64_t> tag;    // (epoch, position), released after the ids
  std::atomic<std::uint64_t> begin;  // index into log_ids, not yet taken modulo kLogIds
  std::atomic<std::uint64_t> count;
};

struct alignas(kStride) SegmentHeader {
  std::uint64_t magic;
  std::uint32_t version;
  SegmentLayout layout;
  std::uint32_t has_membarrier;  // its owner can be interrupted by a sleeper's membarrier
  std::uint64_t bytes;
  std::uint64_t member;
};

// The fixed part; the stages of the channels follow it.
struct Lines {
  SegmentHeader header;
  alignas(kStride) pthread_mutex_t liveness;  // robust; its first word is the liveness word
  Padded<std::uint32_t> left;                 // 1: the owner ended its watch on purpose
  Padded<std::uint32_t> doorbell;             // futex that sleeping peers wait on
  Padded<std::uint32_t> sleeping;             // 1: the owner wants doorbells to be rung
  Padded<std::uint64_t> ready_epoch;          // the owner's newest view, all of whose predecessors are STABLE
  Padded<std::uint64_t> record_version;       // record v lies in slot v % 2; 0: none
  std::array<RecordSlot, 2> records;
  std::array<ChannelLines, kChannelCount> channels;
  Padded<std::uint64_t> log_read;  // (epoch, position) of the last log entry that the owner has read
  std::array<LogEntry, kLogEntries> log;
  alignas(kStride) std::array<std::atomic<std::uint32_t>, kLogIds> log_ids;
  alignas(kStride) std::array<std::atomic<std::uint64_t>, kBoardTensors> ready;  // epoch << 32 | submissions
};

// The liveness word is read as a futex.
static_assert(sizeof(std::atomic<std::uint32_t>) == 4 && std::atomic<std::uint64_t>::is_always_lock_free);

constexpr std::size_t round_up(std::size_t value, std::size_t multiple) noexcept {
  return (value + multiple - 1) / multiple * multiple;
}

// Bytes of one out-stage slot: what one of two or more members reduces of a chunk.
constexpr std::size_t out_slot_bytes(const SegmentLayout& layout) noexcept {
  return round_up(layout.chunk_bytes / 2, kLine);
}

// Offsets of a channel's stages within the segment.
struct StageOffsets {
  std::size_t one_shot, in, out, end;
};

constexpr StageOffsets stage_offsets(const SegmentLayout& layout, int channel) noexcept {
  const std::size_t one_shot_total = round_up(layout.one_shot_bytes, 4096) * kOneShotSlots;
  const std::size_t in_total = round_up(layout.chunk_bytes, 4096) * kChunkSlots;
  const std::size_t out_total = round_up(out_slot_bytes(layout), 4096) * kChunkSlots;
  const std::size_t stage = one_shot_total + in_total + out_total;
  const std::size_t begin = round_up(sizeof(Lines), 4096) + stage * static_cast<std::size_t>(channel);
  return {begin, begin + one_shot_total, begin + one_shot_total + in_total, begin + stage};
}

}  // namespace hora::shm
