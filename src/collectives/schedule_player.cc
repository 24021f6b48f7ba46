#include "collectives/schedule_player.h"

#include <algorithm>
#include <cassert>
#include <utility>

#include "collectives/schedule_messages.h"

namespace hora::collectives {
namespace {

// Steps of the tag: 0 is the arrival, the messages of the plan follow. A forwarded outcome has two messages; they
// cannot meet an arrival, because one operation is either forwarded or played in a view.
constexpr std::uint32_t kArrivalStep = 0;
constexpr std::uint32_t kForwardHeaderStep = 0;
constexpr std::uint32_t kForwardBodyStep = 1;

// A message of a large operation is so many chunks of the view long: the time on the wire hides what it costs to begin
// one, and what is reduced while the next one arrives is still in the cache.
constexpr std::uint64_t kChunksOfMessage = 4;

// So much of a result goes to the targets in one step: whoever wants the engine gets it within a millisecond or two.
constexpr std::uint64_t kPieceBytes = 8 << 20;

}  // namespace

void SchedulePlayer::enter(const View& view, Rank rank) {
  epoch_ = view.epoch;
  rank_ = rank;
  size_ = view.size();
  hosts_.clear();
  std::vector<std::uint64_t> seen;
  for (const Member& member : view.members) {
    const auto host = std::ranges::find(seen, member.host);
    hosts_.push_back(static_cast<int>(host - seen.begin()));
    if (host == seen.end()) seen.push_back(member.host);
  }
  message_bytes_ = kChunksOfMessage * std::max<std::uint64_t>(view.config.chunk_bytes, 1);
  plans_made_ = 0;
}

void SchedulePlayer::start(const Operation& operation) {
  assert(!active_);
  active_ = true;
  operation_ = operation;
  prepare();
}

void SchedulePlayer::redo(Rank root) {
  assert(active_ && !done_);
  operation_.signature.root = root;
  prepare();
}

void SchedulePlayer::await_forward(Rank root) {
  assert(active_ && !done_);
  operation_.signature.root = root;
  forwarded_ = true;
  forwarder_ = Rank{};
  header_read_ = false;
}

// Nothing of the retained outcome is touched before all ranks have arrived.
void SchedulePlayer::prepare() {
  const Signature& signature = operation_.signature;
  const auto ranks = static_cast<std::size_t>(size_);
  const auto self = static_cast<std::size_t>(rank_.value);
  greeting_ = encode(signature);
  greeted_.assign(ranks, 0);
  arrived_.assign(ranks, 0);
  arrivals_.resize(ranks);
  signatures_.assign(ranks, Signature{});
  greeted_[self] = arrived_[self] = 1;
  signatures_[self] = signature;
  greeted_count_ = arrived_count_ = 1;
  forwarded_ = false;
  prepare_moves();
  if (size_ == 1) result_.resize(plan_->schedule.result_count * element_bytes());
}

Step SchedulePlayer::play() {
  if (done_) return fill_targets();
  if (forwarded_) return receive_forward();
  if (!has_met_all()) {
    meet();
    if (has_met_all()) {
      if (!signatures_agree()) return finish(Step::mismatch);
      result_.resize(plan_->schedule.result_count * element_bytes());
    }
  }
  play_moves();
  return has_met_all() && segments_left_ == 0 ? finish(Step::done) : Step::pending;
}

void SchedulePlayer::meet() {
  for (int peer = 0; peer < size_; ++peer) {
    const auto i = static_cast<std::size_t>(peer);
    const Tag at = tag(operation_.sequence, kArrivalStep);
    if (greeted_[i] == 0 && links_.try_send(Rank{peer}, at, greeting_)) {
      greeted_[i] = 1;
      ++greeted_count_;
    }
    if (arrived_[i] != 0) continue;
    const auto received = links_.try_receive(Rank{peer}, at, arrivals_[i]);
    if (!received.ok() || !received.value()) continue;
    arrived_[i] = 1;
    signatures_[i] = decode_signature(arrivals_[i]);
    ++arrived_count_;
  }
}

bool SchedulePlayer::signatures_agree() const {
  return std::ranges::all_of(signatures_, [&](const Signature& other) { return other == signatures_[0]; });
}

bool SchedulePlayer::forward(Rank to, int& messages_sent) {
  if (messages_sent == 0) {
    if (!links_.try_send(to, tag(last_.sequence, kForwardHeaderStep), encode(OutcomeHeader{outcome_, contributors_})))
      return false;
    messages_sent = 1;
  }
  if (messages_sent == 1) {
    const wire::Bytes said = encode(std::span<const Signature>(retained_signatures_));
    const std::span<const std::byte> body =
        outcome_ == Step::mismatch ? std::span(said) : std::as_const(result_).span();
    if (!links_.try_send(to, tag(last_.sequence, kForwardBodyStep), body)) return false;
    messages_sent = 2;
  }
  return true;
}

// Who has the outcome has seen this rank arrive: in the view in which this rank played the operation last, whose size
// the targets have.
bool SchedulePlayer::receive_header() {
  const auto received = links_.try_receive(forwarder_, tag(operation_.sequence, kForwardHeaderStep), header_);
  if (!received.ok() || !received.value()) return false;
  const auto header = decode_outcome_header(header_);
  if (!header.ok() || static_cast<std::size_t>(header.value().contributors) != signatures_.size()) return false;
  forwarded_outcome_ = header.value().outcome;
  return true;
}

Step SchedulePlayer::receive_forward() {
  if (forwarder_.value < 0) return Step::pending;
  if (!header_read_ && !(header_read_ = receive_header())) return Step::pending;
  const Tag at = tag(operation_.sequence, kForwardBodyStep);
  const std::size_t ranks = signatures_.size();
  if (forwarded_outcome_ == Step::mismatch) {
    forwarded_signatures_.resize(ranks * kSignatureBytes);
    const auto received = links_.try_receive(forwarder_, at, forwarded_signatures_);
    if (!received.ok() || !received.value()) return Step::pending;
    signatures_.clear();
    for (std::size_t i = 0; i < ranks; ++i)
      signatures_.push_back(
          decode_signature(std::span(forwarded_signatures_).subspan(i * kSignatureBytes).first<kSignatureBytes>()));
  } else {
    // The outcome retained so far is of the operation before, which the forwarder is past, and so is everybody.
    const Signature& signature = operation_.signature;
    const auto parts = signature.kind == Collective::barrier     ? 0
                       : signature.kind == Collective::allgather ? ranks
                                                                 : std::size_t{1};
    result_.resize(parts * signature.count * element_bytes());
    const auto received = links_.try_receive(forwarder_, at, result_.span());
    if (!received.ok() || !received.value()) return Step::pending;
  }
  return finish(forwarded_outcome_);
}

Step SchedulePlayer::finish(Step outcome) {
  if (outcome == Step::mismatch) result_.resize(0);
  outcome_ = outcome;
  contributors_ = static_cast<int>(signatures_.size());
  last_ = {operation_.sequence, true};
  retained_signatures_.clear();
  if (outcome == Step::mismatch) retained_signatures_ = signatures_;
  // Decided now: a later view has other ranks.
  done_ = outcome == Step::done && (forwarded_ || !fills_targets_early_) && result_fills_targets();
  filled_ = 0;
  forwarded_ = false;
  if (done_) return fill_targets();
  active_ = false;
  return outcome;
}

Step SchedulePlayer::fill_targets() {
  const std::uint64_t piece = std::max<std::uint64_t>(1, kPieceBytes / (result_parts() * element_bytes()));
  const std::uint64_t count = std::min(operation_.signature.count - filled_, piece);
  copy_out(filled_, count);
  filled_ += count;
  ++pieces_;
  if (filled_ < operation_.signature.count) return Step::pending;
  active_ = done_ = false;
  return Step::done;
}

std::vector<Rank> SchedulePlayer::missing() const {
  std::vector<Rank> ranks;
  if (!active_ || forwarded_ || done_) return ranks;
  for (int peer = 0; peer < size_; ++peer)
    if (arrived_[static_cast<std::size_t>(peer)] == 0) ranks.push_back(Rank{peer});
  return ranks;
}

}  // namespace hora::collectives
