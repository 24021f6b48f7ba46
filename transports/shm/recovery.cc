// What a frozen member reports, and how it carries out the verdicts of an INSTALL (protocol law 3).
#include <cassert>

#include "transports/shm/group.h"

namespace hora::shm {

// Made only of what this member knew when it was frozen: looking at the peers' words again could give another answer.
ChannelReport ShmGroup::report(Channel channel) const {
  const ChannelState& state = channels_[static_cast<std::size_t>(channel)];
  ChannelReport report;
  report.done = state.done;
  report.active = state.active();
  if (!report.active) return report;
  report.signature = state.signature;
  report.overwrites_input = state.algorithm == Algorithm::two_shot && state.extents.in_place();
  if (state.algorithm != Algorithm::two_shot || state.phase != Phase::moving) return report;
  for (int rank = 0; rank < size_; ++rank)
    report.reduced.push_back(rank == rank_ ? state.stored : state.peers[static_cast<std::size_t>(rank)].stored);
  return report;
}

// Ends the active operation from retained slots. It is DONE at a survivor, so everything that it needs was stored, and
// nobody has overwritten it: that would have needed this member's flag or progress.
void ShmGroup::commit(ChannelState& state) {
  state.phase = Phase::ended;
  state.outcome = Step::done;
  state.contributors = size_;
  for (int rank = 0; rank < size_; ++rank)
    if (flag_of(rank, state).signature != state.packed) state.outcome = Step::mismatch;
  if (state.outcome == Step::mismatch) return read_signatures(state);
  if (state.algorithm == Algorithm::one_shot) return consume_one_shot(state);
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    const std::uint64_t chunks = state.chunking.chunks;
    ChannelState::Peer& peer = state.peers[static_cast<std::size_t>(rank)];
    if (state.algorithm == Algorithm::two_shot) {
      while (peer.taken < chunks) gather_slice(state, rank);
    } else if (state.signature.kind != Collective::broadcast || state.signature.root.value == rank) {
      while (peer.taken < chunks) take_chunk(state, rank);
    }
  }
}

// Takes the committed units that this member lacks, and leaves the rest as the work of the new view. `reduced` counts
// the units of each rank of the view that is left.
void ShmGroup::keep_unreduced(ChannelState& state, std::span<const std::uint64_t> reduced) {
  assert(state.algorithm == Algorithm::two_shot && reduced.size() == static_cast<std::size_t>(size_));
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    const std::uint64_t units = std::min(reduced[static_cast<std::size_t>(rank)], state.chunking.chunks);
    while (state.peers[static_cast<std::size_t>(rank)].taken < units) gather_slice(state, rank);
  }
  std::vector<ExtentList::Range> left;
  for (std::uint64_t chunk = 0; chunk < state.chunking.chunks; ++chunk) {
    for (int rank = 0; rank < size_; ++rank) {
      if (chunk < reduced[static_cast<std::size_t>(rank)]) continue;
      const ExtentList::Range slice = state.chunking.slice(chunk, rank);
      if (slice.begin == slice.end) continue;
      if (!left.empty() && left.back().end == slice.begin) {
        left.back().end = slice.end;
      } else {
        left.push_back(slice);
      }
    }
  }
  state.extents.keep_only(left);
}

void ShmGroup::apply(ChannelState& state, const ChannelVerdict& verdict) {
  if (state.active() && state.sequence <= verdict.committed) {
    commit(state);
    set_done(state, state.sequence);
  }
  if (verdict.next == Fate::broken) {
    if (state.active()) state.phase = Phase::idle;
    set_done(state, verdict.committed + 1);
    return;
  }
  if (!state.active()) return;
  // A member that has not seen all arrive has taken nothing, but its peers may have stored units already.
  if (verdict.next == Fate::resume) keep_unreduced(state, verdict.reduced);
  state.phase = Phase::entering;
}

// Roots bind to members: in the next view the same member has another rank. It is there, or the broadcast were broken.
void ShmGroup::follow_root(ChannelState& state, const View& next) const {
  if (state.signature.kind != Collective::broadcast) return;
  const MemberId root = members_[static_cast<std::size_t>(state.signature.root.value)]->member();
  state.signature.root = next.rank_of(root).value();
  state.packed = state.signature.pack();
}

void ShmGroup::install(const View& next, std::span<const ChannelVerdict> verdicts) {
  assert(verdicts.size() == kChannelCount && next.epoch > epoch_);
  for (std::size_t channel = 0; channel < kChannelCount; ++channel) {
    apply(channels_[channel], verdicts[channel]);
    if (channels_[channel].active()) follow_root(channels_[channel], next);
  }
  std::vector<const Segment*> members;
  for (const Member& member : next.members) {
    const auto same = [&](const Segment* segment) { return segment->member() == member.id; };
    auto segment = std::find_if(members_.begin(), members_.end(), same);
    if (segment == members_.end()) {
      segment = std::find_if(newcomers_.begin(), newcomers_.end(), same);
      assert(segment != newcomers_.end() && "a member of the view was never met");
    }
    members.push_back(*segment);
  }
  std::erase_if(newcomers_, [&](const Segment* segment) { return next.rank_of(segment->member()).has_value(); });
  members_ = std::move(members);
  enter_view(next);
  for (ChannelState& state : channels_)
    if (state.active()) choose_algorithm(state);
}

}  // namespace hora::shm
