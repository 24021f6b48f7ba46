#include "transports/shm/group.h"

#include <cassert>
#include <cstring>

#include "transports/shm/read_barrier.h"

namespace hora::shm {

ShmGroup::ShmGroup(Segment& own, std::vector<const Segment*> members, const View& view, const Positions& done)
    : own_(own), members_(std::move(members)), doorbell_(own, members_) {
  for (int d = 0; d < kDataTypeCount; ++d)
    for (int o = 0; o < kReduceOpCount; ++o) {
      const auto dtype = static_cast<DataType>(d);
      const auto op = static_cast<ReduceOp>(o);
      kernels_[d][o] = collectives::is_supported(dtype, op) ? collectives::find_reduce_kernel(dtype, op) : nullptr;
    }
  for (int channel = 0; channel < kChannelCount; ++channel)
    channels_[static_cast<std::size_t>(channel)].channel = channel;
  for (std::size_t channel = 0; channel < kChannelCount; ++channel) {
    channels_[channel].done = done[channel];
    own_.lines().channels[channel].done.value.store(done[channel], std::memory_order_release);  // before entering
  }
  enter_view(view);
}

void ShmGroup::enter_view(const View& view) {
  epoch_ = view.epoch;
  size_ = view.size();
  assert(members_.size() == static_cast<std::size_t>(size_));
  for (int i = 0; i < size_; ++i) {
    assert(members_[static_cast<std::size_t>(i)]->member() == view.members[static_cast<std::size_t>(i)].id);
    if (members_[static_cast<std::size_t>(i)]->member() == own_.member()) rank_ = i;
  }
  all_ready_ = false;
  const SegmentLayout& layout = own_.layout();
  one_shot_bytes_ = choose_one_shot_bytes(size_, view.config.one_shot_bytes, layout);
  const std::uint32_t chunk = view.config.chunk_bytes == 0 ? layout.chunk_bytes : view.config.chunk_bytes;
  chunk_bytes_ = round_up(std::clamp<std::size_t>(chunk, 4096, layout.chunk_bytes), kStride);
  chunk_bytes_ = std::min<std::size_t>(chunk_bytes_, layout.chunk_bytes);
  for (ChannelState& state : channels_) {
    state.sources.resize(static_cast<std::size_t>(size_));
    state.peers.assign(static_cast<std::size_t>(size_), {});
  }
  doorbell_.rebind(own_, members_);
  // Release: it holds every result of the views before.
  own_.lines().ready_epoch.value.store(epoch_.value, std::memory_order_release);
  doorbell_.published();
}

bool ShmGroup::all_ready() noexcept {
  for (const Segment* member : members_)
    if (member->lines().ready_epoch.value.load(std::memory_order_acquire) != epoch_.value) return false;
  all_ready_ = true;
  return true;
}

// Whether what was just read from peers was this view's: they overwrite slots only after all have entered the next
// view, so it fails only on one that was expelled, stopped and woken. Its operation then stays pending for ever.
bool ShmGroup::still_in_view() const noexcept {
  read_barrier();
  for (const Segment* member : members_)
    if (member->lines().ready_epoch.value.load(std::memory_order_relaxed) != epoch_.value) return false;
  return true;
}

Step ShmGroup::start(const Operation& operation) {
  ChannelState& state = channels_[static_cast<std::size_t>(operation.channel)];
  assert(!state.active() && operation.sequence == state.done + 1);
  state.sequence = operation.sequence;
  state.signature = operation.signature;
  state.packed = operation.signature.pack();
  state.extents.borrow(operation.extents);
  return begin(state);
}

Step ShmGroup::step(Channel channel) {
  ChannelState& state = channels_[static_cast<std::size_t>(channel)];
  switch (state.phase) {
    case Phase::arriving: return arrive(state);
    case Phase::moving: return move(state);
    case Phase::entering: return begin(state);
    case Phase::ended: return state.outcome;
    case Phase::idle: break;
  }
  assert(false && "step() without an operation");
  return Step::pending;
}

void ShmGroup::choose_algorithm(ChannelState& state) const noexcept {
  const std::size_t bytes = state.extents.bytes();
  if (bytes <= one_shot_bytes_ || size_ == 1 || state.signature.kind == Collective::barrier) {
    state.algorithm = Algorithm::one_shot;
  } else {
    state.algorithm = state.signature.kind == Collective::allreduce ? Algorithm::two_shot : Algorithm::streamed;
  }
}

// Writes the own part and raises the own flag, as soon as all members are in this view.
Step ShmGroup::begin(ChannelState& state) {
  choose_algorithm(state);
  state.phase = Phase::entering;
  if (!all_ready_ && !all_ready()) return Step::pending;
  state.phase = Phase::arriving;
  state.arrived = 0;
  state.disagree = false;
  if (state.algorithm == Algorithm::one_shot) {
    stage_one_shot(state);
  } else {
    cut_chunks(state);
  }
  publish_flag(state);
  // The in-stage is free: whoever ended the operation before had seen it consumed.
  if (state.algorithm == Algorithm::two_shot) copy_in(state);
  return arrive(state);
}

void ShmGroup::publish_flag(ChannelState& state) noexcept {
  FlagLine& flag = own_flag(state);
  flag.signature = state.packed;
  // Release: the signature, the payload and the one-shot stage.
  flag.tag.store(make_tag(epoch_, state.sequence), std::memory_order_release);
  doorbell_.published();
}

Step ShmGroup::arrive(ChannelState& state) {
  const std::uint64_t tag = make_tag(epoch_, state.sequence);
  for (; state.arrived < size_; ++state.arrived) {
    const FlagLine& flag = flag_of(state.arrived, state);
    if (flag.tag.load(std::memory_order_acquire) != tag) return Step::pending;
    if (flag.signature != state.packed) state.disagree = true;
  }
  if (state.disagree) [[unlikely]] {
    read_signatures(state);
    return still_in_view() ? finish(state, Step::mismatch) : Step::pending;
  }
  if (state.algorithm == Algorithm::one_shot) {
    consume_one_shot(state);
    return still_in_view() ? finish(state, Step::done) : Step::pending;
  }
  state.phase = Phase::moving;
  return move(state);
}

Step ShmGroup::move(ChannelState& state) {
  const bool complete = state.algorithm == Algorithm::two_shot ? step_two_shot(state) : step_streamed(state);
  return complete && still_in_view() ? finish(state, Step::done) : Step::pending;
}

Step ShmGroup::finish(ChannelState& state, Step outcome) noexcept {
  state.phase = Phase::ended;
  state.outcome = outcome;
  state.contributors = size_;
  set_done(state, state.sequence);
  // The next flag line is written soon; peers read it last.
  __builtin_prefetch(
      &own_.lines().channels[static_cast<std::size_t>(state.channel)].flags[(state.sequence + 1) % kFlagSlots], 1);
  return outcome;
}

void ShmGroup::set_done(ChannelState& state, std::uint64_t sequence) noexcept {
  state.done = sequence;
  // Release: the result is in the targets when the word says so.
  own_.lines().channels[static_cast<std::size_t>(state.channel)].done.value.store(sequence, std::memory_order_release);
  doorbell_.published();
}

void ShmGroup::read_signatures(ChannelState& state) const {
  state.signatures.clear();
  for (int rank = 0; rank < size_; ++rank)
    state.signatures.push_back(Signature::unpack(flag_of(rank, state).signature));
}

int ShmGroup::contributors(Channel channel) const {
  return channels_[static_cast<std::size_t>(channel)].contributors;
}

std::vector<Rank> ShmGroup::missing(Channel channel) const {
  const ChannelState& state = channels_[static_cast<std::size_t>(channel)];
  std::vector<Rank> ranks;
  if (!state.active()) return ranks;
  for (int rank = 0; rank < size_; ++rank)
    if (flag_of(rank, state).tag.load(std::memory_order_acquire) != make_tag(epoch_, state.sequence) && rank != rank_)
      ranks.push_back(Rank{rank});
  return ranks;
}

std::vector<Signature> ShmGroup::signatures(Channel channel) const {
  return channels_[static_cast<std::size_t>(channel)].signatures;
}

}  // namespace hora::shm
