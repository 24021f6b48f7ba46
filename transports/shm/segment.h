// A member's shared segment: a sealed memfd that its owner alone can write and that peers map read-only from a received
// descriptor. It has no name, so nothing can leak or be stale, and it outlives its writer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "hora/types.hpp"
#include "transports/shm/layout.h"

namespace hora::shm {

// The layout for `chunk_bytes` and `one_shot_bytes` of the options, where 0 stands for what suits a last-level cache of
// `cache_bytes` (0: unknown). The founder's choice; joiners are told.
SegmentLayout choose_layout(std::size_t cache_bytes, std::uint32_t chunk_bytes, std::uint32_t one_shot_bytes) noexcept;

// The largest payload that `size` members move in one shot, where the options' `one_shot_bytes` is 0: what suits.
std::size_t choose_one_shot_bytes(int size, std::uint32_t one_shot_bytes, const SegmentLayout& layout) noexcept;

// Thread safe where it says so. A forked child does not inherit the mapping (MADV_DONTFORK).
class Segment {
 public:
  // The own segment of `owner`. All of its memory is allocated here: a shortage is StatusCode::resource now, not a
  // SIGBUS later. The message names the limit and the knob.
  static Result<std::unique_ptr<Segment>> create(MemberId owner, const SegmentLayout& layout);
  // A peer's segment, read-only. StatusCode::invalid_argument names what differs from what was expected.
  static Result<std::unique_ptr<Segment>> attach(UniqueFd fd, MemberId expected, const SegmentLayout& layout);
  // `own` as a peer in the same process sees it: the same mapping, for thread sanitizers.
  static std::unique_ptr<Segment> attach_in_process(const Segment& own);

  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  [[nodiscard]] MemberId member() const noexcept { return member_; }
  [[nodiscard]] const SegmentLayout& layout() const noexcept { return layout_; }
  // To be passed to peers; -1 for a peer's segment.
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }

  // The last record of the owner: what it promised and accepted (protocol law 1). Owner only, one thread at a time. At
  // most kRecordBytes.
  Status write_record(std::span<const std::byte> record);
  // Thread safe; never a torn record. Empty when none was written, or when a record is being replaced all the time.
  [[nodiscard]] std::optional<std::vector<std::byte>> read_record() const;

  // For the classes of this folder.
  [[nodiscard]] Lines& lines() noexcept { return *lines_; }
  [[nodiscard]] const Lines& lines() const noexcept { return *lines_; }
  [[nodiscard]] std::byte* one_shot_stage(int channel, std::uint64_t sequence) const noexcept {
    return base() + offsets_[channel].one_shot + sequence % kOneShotSlots * round_up(layout().one_shot_bytes, 4096);
  }
  [[nodiscard]] std::byte* in_stage(int channel, std::uint64_t chunk) const noexcept {
    return base() + offsets_[channel].in + chunk % kChunkSlots * round_up(layout().chunk_bytes, 4096);
  }
  [[nodiscard]] std::byte* out_stage(int channel, std::uint64_t chunk) const noexcept {
    return base() + offsets_[channel].out + chunk % kChunkSlots * round_up(out_slot_bytes(layout()), 4096);
  }

 private:
  Segment(std::shared_ptr<void> mapping, MemberId member, const SegmentLayout& layout, UniqueFd fd) noexcept;
  [[nodiscard]] std::byte* base() const noexcept { return reinterpret_cast<std::byte*>(lines_); }

  std::shared_ptr<void> mapping_;  // shared by the segments of attach_in_process only
  Lines* lines_;
  // Not read from the header again: what a dying peer writes there must not lead this member astray (protocol law 2).
  const MemberId member_;
  const SegmentLayout layout_;
  StageOffsets offsets_[kChannelCount];
  UniqueFd fd_;
};

}  // namespace hora::shm
