#include "collectives/schedule_group.h"

#include <algorithm>
#include <cassert>

namespace hora::collectives {
namespace {

// The lane of the pair transport that carries what members say of their last outcomes; operations have the lanes of
// their channels.
constexpr std::uint8_t kSettleLane = kChannelCount;

// The rank in `next` of the member that has `rank` in `old`; negative where it left.
Rank follow(Rank rank, const View& old, const View& next) {
  if (rank.value < 0 || rank.value >= old.size()) return Rank{};
  return next.rank_of(old.members[static_cast<std::size_t>(rank.value)].id).value_or(Rank{});
}

}  // namespace

ScheduleGroup::ScheduleGroup(std::unique_ptr<PairTransport> links, MemberId self, const View& view)
    : links_(std::move(links)),
      self_(self),
      view_(view),
      rank_(view.rank_of(self).value()),
      lanes_{Lane{SchedulePlayer(*links_, Channel::ordered)}, Lane{SchedulePlayer(*links_, Channel::negotiated)}} {
  links_->enter(view_);
  for (Lane& lane : lanes_) lane.player.enter(view_, rank_);
}

ScheduleGroup::ScheduleGroup(std::unique_ptr<PairTransport> links, MemberId self, const View& view,
                             const Positions& done)
    : ScheduleGroup(std::move(links), self, view) {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    lanes_[i].done = done[i];
    lanes_[i].player.begin_after(done[i]);
  }
  begin_settling();
}

Step ScheduleGroup::start(const Operation& operation) {
  Lane& lane = this->lane(operation.channel);
  assert(!lane.player.active() && operation.sequence == lane.done + 1);
  lane.player.start(operation);
  return step(operation.channel);
}

Step ScheduleGroup::step(Channel channel) {
  Lane& lane = this->lane(channel);
  assert(lane.player.active());
  // What is owed goes first: on a full link an operation of this view would stand in its way.
  if (!settle() && !lane.player.awaits_forward() && !lane.player.is_done()) return Step::pending;
  const Step step = lane.player.play();
  count_moves();
  if (step != Step::pending || lane.player.is_done()) lane.done = std::max(lane.player.last().sequence, lane.broken);
  return step;
}

void ScheduleGroup::count_moves() {
  moves_ = links_->moves();
  for (const Lane& lane : lanes_) moves_ += lane.player.pieces();
}

ChannelReport ScheduleGroup::report(Channel channel) const {
  const Lane& lane = this->lane(channel);
  ChannelReport report;
  report.done = lane.done;
  report.active = lane.player.active() && !lane.player.is_done();
  if (report.active) report.signature = lane.player.signature();
  return report;
}

void ScheduleGroup::install(const View& next, std::span<const ChannelVerdict> verdicts) {
  assert(verdicts.size() == kChannelCount && next.epoch > view_.epoch);
  rank_ = next.rank_of(self_).value();
  links_->enter(next);
  for (std::size_t i = 0; i < lanes_.size(); ++i) install_lane(lanes_[i], next, verdicts[i]);
  view_ = next;
  begin_settling();
}

void ScheduleGroup::begin_settling() {
  peers_.assign(static_cast<std::size_t>(view_.size()), Peer{});
  Peer& own = peers_[static_cast<std::size_t>(rank_.value)];
  own.told = own.heard = true;
  for (std::size_t i = 0; i < lanes_.size(); ++i) own.last[i] = lanes_[i].player.last();
  settled_ = false;
  settle();
}

void ScheduleGroup::install_lane(Lane& lane, const View& next, const ChannelVerdict& verdict) {
  const bool behind = verdict.committed > lane.done;
  const bool broken = verdict.next == Fate::broken;
  assert(!behind || lane.player.active());
  assert(verdict.next != Fate::resume && "no input is ever overwritten unit by unit");
  const Signature& signature = lane.player.signature();
  const Rank root = signature.kind == Collective::broadcast ? follow(signature.root, view_, next) : signature.root;
  lane.player.enter(next, rank_);
  if (behind) {
    lane.player.await_forward(root);
  } else if (lane.player.active() && !lane.player.is_done()) {
    if (broken)
      lane.player.abandon();
    else
      lane.player.redo(root);
  }
  if (!broken) return;
  // Who is behind may have had the one after it broken before.
  lane.broken = std::max(lane.broken, verdict.committed + 1);
  if (!behind) lane.done = lane.broken;
}

bool ScheduleGroup::settle() {
  if (settled_) return true;
  if (exchange_outcomes()) {
    settled_ = true;
    for (std::size_t channel = 0; channel < lanes_.size(); ++channel) settled_ &= forward_lane(channel);
  }
  count_moves();
  return settled_;
}

// True when every member has told its last outcomes, and has been told ours.
bool ScheduleGroup::exchange_outcomes() {
  const Tag tag{view_.epoch, kSettleLane, 0, 0};
  // As it was at install(): all must choose the same forwarder, whenever they hear of it.
  const LastOutcomes& own = peers_[static_cast<std::size_t>(rank_.value)].last;
  bool complete = true;
  for (int rank = 0; rank < view_.size(); ++rank) {
    Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (!peer.told) peer.told = links_->try_send(Rank{rank}, tag, encode(own));
    if (!peer.heard) {
      const auto received = links_->try_receive(Rank{rank}, tag, peer.message);
      if (received.ok() && received.value()) {
        if (const auto outcomes = decode_last_outcomes(peer.message); outcomes.ok())
          peer.heard = true, peer.last = outcomes.value();
      }
    }
    complete &= peer.told && peer.heard;
  }
  return complete;
}

// The lowest rank that retains the last outcome of the channel sends it to those that are behind. True when nothing is
// left. Nobody is behind an outcome that only newcomers know of: they come when all have seen it. And nobody awaits one
// that no member retains: a verdict commits what is DONE at a member of the next view.
bool ScheduleGroup::forward_lane(std::size_t channel) {
  const Peer* holder = nullptr;
  for (const Peer& peer : peers_)
    if (peer.last[channel].retained &&
        (holder == nullptr || peer.last[channel].sequence > holder->last[channel].sequence))
      holder = &peer;
  if (holder == nullptr) return true;
  const Rank holder_rank{static_cast<std::int32_t>(holder - peers_.data())};
  SchedulePlayer& player = lanes_[channel].player;
  if (player.awaits_forward()) player.set_forwarder(holder_rank);
  if (holder_rank != rank_) return true;
  bool all_sent = true;
  for (int rank = 0; rank < view_.size(); ++rank) {
    Peer& peer = peers_[static_cast<std::size_t>(rank)];
    if (peer.last[channel].sequence >= holder->last[channel].sequence) continue;
    all_sent &= player.forward(Rank{rank}, peer.messages_forwarded[channel]);
  }
  return all_sent;
}

}  // namespace hora::collectives
