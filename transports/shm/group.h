// The data plane of members that share memory: inline one-shot in the flag line, staged one-shot, and pipelines through
// cache-resident chunks. Every algorithm is a state machine that step() moves on without waiting.
//
// Hot path: no syscall, lock, allocation, log or std::function call in start() and step(), but for waking a peer that
// sleeps (a futex call) and for a fused group that is larger than all before it (it grows a vector).
//
// Why slots can be reused without acknowledgements: who starts operation s has finished s - 1, so everybody had arrived
// at s - 1 and had finished s - 2. Only what s - 1 left must stay: its one-shot slot is the other one, its out-stage is
// not written before everybody has arrived at s, and its in-stage was read by all before anybody finished it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "collectives/reduce_kernels.h"
#include "interfaces/group_transport.h"
#include "transports/shm/channel_state.h"
#include "transports/shm/doorbell.h"
#include "transports/shm/segment.h"

namespace hora::shm {

class ShmGroup final : public GroupTransport {
 public:
  // `members` are the segments of `view` in rank order; `own` is among them (itself, or as attached in process). Each
  // must outlive the install() of a view that leaves its member out, which may complete from its slots what this member
  // lacks. They have equal layouts. A newcomer enters with `done` operations behind it.
  ShmGroup(Segment& own, std::vector<const Segment*> members, const View& view, const Positions& done = {});

  // The segment of a member of a view that is installed later, likewise.
  void meet(const Segment& newcomer) { newcomers_.push_back(&newcomer); }

  Step start(const Operation& operation) override;
  Step step(Channel channel) override;

  [[nodiscard]] int contributors(Channel channel) const override;
  [[nodiscard]] std::uint64_t stable(Channel channel) const override;
  [[nodiscard]] std::vector<Rank> missing(Channel channel) const override;
  [[nodiscard]] std::vector<Signature> signatures(Channel channel) const override;

  void begin_sleep() override {
    moves_before_sleep_ = moves_;
    doorbell_.begin_sleep();
  }
  // Returns at once when a step since begin_sleep() moved bytes: it stops after one chunk, and there may be more to do
  // although no peer moves.
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override {
    if (moves_ == moves_before_sleep_) doorbell_.sleep(wake_word, seen, timeout);
  }
  void end_sleep() override { doorbell_.end_sleep(); }

  [[nodiscard]] ChannelReport report(Channel channel) const override;
  // An operation that `verdicts` commits has ended when this returns. step() may then be called once more to learn
  // whether as done or as mismatch, or the next operation be started.
  void install(const View& next, std::span<const ChannelVerdict> verdicts) override;

 private:
  // group.cc
  void enter_view(const View& view);
  bool all_ready() noexcept;
  void choose_algorithm(ChannelState& state) const noexcept;
  Step begin(ChannelState& state);
  Step arrive(ChannelState& state);
  Step move(ChannelState& state);
  Step finish(ChannelState& state, Step outcome) noexcept;
  void set_done(ChannelState& state, std::uint64_t sequence) noexcept;
  void publish_flag(ChannelState& state) noexcept;
  void read_signatures(ChannelState& state) const;
  [[nodiscard]] bool still_in_view() const noexcept;
  [[nodiscard]] const FlagLine& flag_of(int rank, const ChannelState& state) const noexcept {
    return members_[static_cast<std::size_t>(rank)]
        ->lines()
        .channels[static_cast<std::size_t>(state.channel)]
        .flags[state.sequence % kFlagSlots];
  }
  [[nodiscard]] FlagLine& own_flag(const ChannelState& state) const noexcept {
    return own_.lines().channels[static_cast<std::size_t>(state.channel)].flags[state.sequence % kFlagSlots];
  }
  [[nodiscard]] ProgressLine& own_progress(const ChannelState& state) const noexcept {
    return own_.lines().channels[static_cast<std::size_t>(state.channel)].progress;
  }
  [[nodiscard]] collectives::ReduceKernel kernel_of(const Signature& signature) const noexcept {
    return kernels_[static_cast<std::size_t>(signature.dtype)][static_cast<std::size_t>(signature.op)];
  }

  // one_shot.cc
  void stage_one_shot(ChannelState& state) noexcept;
  void consume_one_shot(ChannelState& state) noexcept;
  // chunked.cc: what two-shot and streamed share
  void cut_chunks(ChannelState& state) noexcept;
  void see_peers(ChannelState& state) const noexcept;
  void publish_progress(ChannelState& state, std::atomic<std::uint64_t>& word, std::uint64_t chunks) noexcept;
  [[nodiscard]] std::uint64_t least_of_peers(const ChannelState& state,
                                             std::uint64_t ChannelState::Peer::*count) const noexcept;
  // two_shot.cc
  void copy_in(ChannelState& state) noexcept;
  void reduce_own_slice(ChannelState& state) noexcept;
  void gather_slice(ChannelState& state, int rank) noexcept;
  bool step_two_shot(ChannelState& state) noexcept;
  // streamed.cc
  void store_chunk(ChannelState& state) noexcept;
  void take_chunk(ChannelState& state, int rank) noexcept;
  bool step_streamed(ChannelState& state) noexcept;
  // recovery.cc
  void commit(ChannelState& state);
  void keep_unreduced(ChannelState& state, std::span<const std::uint64_t> reduced);
  void apply(ChannelState& state, const ChannelVerdict& verdict);
  void follow_root(ChannelState& state, const View& next) const;

  Segment& own_;
  std::vector<const Segment*> members_;    // of the view, in rank order
  std::vector<const Segment*> newcomers_;  // that are in no view yet
  Epoch epoch_;
  int rank_ = 0;
  int size_ = 0;
  bool all_ready_ = false;                // every member has entered this view
  std::uint64_t moves_before_sleep_ = 0;  // moves() at the last begin_sleep()
  std::size_t one_shot_bytes_ = 0;
  std::size_t chunk_bytes_ = 0;
  Doorbell doorbell_;
  std::array<ChannelState, kChannelCount> channels_;
  collectives::ReduceKernel kernels_[kDataTypeCount][kReduceOpCount];
};

}  // namespace hora::shm
