// The member's half: answers proposers, installs what was decided, keeps its heart beating.
#include "elastic/membership.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <type_traits>
#include <utility>

namespace hora::elastic {

namespace {

constexpr Duration kBeatPeriodMax = std::chrono::seconds(1);

template <typename T>
constexpr bool kAsksForSuccessor =
    std::is_same_v<T, Heartbeat> || std::is_same_v<T, Prepare> || std::is_same_v<T, Accept> || std::is_same_v<T, Leave>;

Epoch epoch_of(const Decided& message) {
  return Epoch{message.decision.next.epoch.value - 1};
}
template <typename T>
Epoch epoch_of(const T& message) {
  return message.epoch;
}

Member member_of(const View& view, MemberId id) {
  const std::optional<Rank> rank = view.rank_of(id);
  assert(rank);
  return view.members[static_cast<std::size_t>(rank->value)];
}

}  // namespace

Membership::Membership(MembershipOptions options, MemberId self, View founding, std::uint64_t seed, TimePoint now)
    : Membership(std::move(options), member_of(founding, self), founding, seed, now) {}

Membership::Membership(MembershipOptions options, Member self, View view, std::uint64_t seed, TimePoint now)
    : options_(std::move(options)),
      self_member_(std::move(self)),
      self_(self_member_.id),
      silence_(std::chrono::milliseconds(view.config.silence_ms)),
      random_(seed),
      detector_(silence_, options_.link_grace),
      view_(std::move(view)),
      beat_due_(now) {
  assert(options_.decide);
  detector_.enter(view_, self_, now);
  record_.epoch = view_.epoch;
  persist();
}

void Membership::on_message(MemberId from, std::span<const std::byte> bytes, TimePoint now) {
  if (fenced_) return;
  const std::optional<Message> message = decode_message(bytes);
  if (!message || from == self_) {
    ++refused_;
    return;
  }
  if (detector_.find(from) == nullptr) return answer_stranger(from, *message, now);
  detector_.heard_from(from, now);
  dispatch(from, *message, now);
}

// A member of a later view may be one that this member has not heard of; so is every member for a newcomer.
void Membership::answer_stranger(MemberId from, const Message& message, TimePoint now) {
  const Epoch epoch = std::visit([](const auto& body) { return epoch_of(body); }, message);
  if (const auto* decided = std::get_if<Decided>(&message); decided && epoch >= view_.epoch)
    return on(*decided, now);  // it is true whoever tells it
  if (epoch <= view_.epoch) {
    ++refused_;
    return;
  }
  if (const auto* died = std::get_if<Died>(&message)) mark_dead(died->member, died->record, now);
  if (!fenced_) send(from, Heartbeat{view_.epoch});  // a member of a view with this one answers with Decided
}

void Membership::dispatch(MemberId from, const Message& message, TimePoint now) {
  if (const auto* died = std::get_if<Died>(&message)) {
    // Of a newcomer to a view that is not known here, its death may be heard first.
    if (died->epoch > view_.epoch || detector_.find(died->member) != nullptr)
      return mark_dead(died->member, died->record, now);
    ++refused_;
    return;
  }
  if (const auto* decided = std::get_if<Decided>(&message)) return on(*decided, now);
  if (std::holds_alternative<Leave>(message)) on_leave(from, now);
  if (fenced_) return;
  std::visit(
      [&]<typename T>(const T& body) {
        const Epoch epoch = epoch_of(body);
        if (epoch > view_.epoch) {
          send(from, Heartbeat{view_.epoch});  // tells the sender that this member is behind: it answers with Decided
        } else if (epoch < view_.epoch) {
          if constexpr (kAsksForSuccessor<T>) help_behind(from);
        } else if constexpr (requires { on(from, body, now); }) {
          on(from, body, now);
        }
      },
      message);
}

void Membership::help_behind(MemberId peer) {
  if (!record_.installed) return;
  send(peer, Decided{*record_.installed});
  // What this member asked meanwhile, in the new view, was lost on one that was still behind.
  if (!round_ || !view_.rank_of(peer)) return;
  if (round_->proposal)
    send(peer, Accept{view_.epoch, {round_->ballot, *round_->proposal}});
  else
    send(peer, Prepare{view_.epoch, round_->ballot});
}

void Membership::on(MemberId from, const Prepare& message, TimePoint now) {
  if (message.ballot.proposer != from || message.ballot.number == 0) {
    ++refused_;
    return;
  }
  highest_number_ = std::max(highest_number_, message.ballot.number);
  if (message.ballot < record_.promised) return send(from, Refuse{view_.epoch, record_.promised});
  record_.promised = message.ballot;
  if (round_ && round_->ballot < message.ballot) round_.reset();
  promise_owed_ = true;
  propose_at_.reset();  // this proposer has its turn first
  freeze();
  if (freezing_ == Freezing::frozen) answer_promise(from);
  want_change(fmt::format("member {} proposed a view", from.value), now);
}

void Membership::answer_promise(MemberId to) {
  promise_owed_ = false;
  persist();
  send(to, Promise{view_.epoch, record_.promised, *report_, record_.accepted});
}

void Membership::on(MemberId from, const Accept& message, TimePoint now) {
  const Ballot& ballot = message.proposal.ballot;
  if (ballot.proposer != from || ballot.number == 0 || !is_successor(message.proposal.decision)) {
    ++refused_;
    return;
  }
  highest_number_ = std::max(highest_number_, ballot.number);
  if (ballot < record_.promised) return send(from, Refuse{view_.epoch, record_.promised});
  if (round_ && round_->ballot < ballot) round_.reset();
  record_.promised = ballot;
  record_.accepted = message.proposal;
  promise_owed_ = false;
  propose_at_.reset();
  persist();
  send(from, Accepted{view_.epoch, ballot});
  want_change(fmt::format("member {} proposed a view", from.value), now);
}

void Membership::on(const Decided& message, TimePoint now) {
  const View& next = message.decision.next;
  if (next.epoch <= view_.epoch) return;  // known
  if (outside()) return on_decided_outside(message.decision, now);
  const bool next_in_chain = next.epoch.value == view_.epoch.value + 1;
  if (next_in_chain && is_successor(message.decision)) return install(message.decision, now);
  // A member of a later view has promised in every view before it, hence has installed them: this one is not in it, or
  // was expelled before it could install what made it a member, and asked again under an id that was used.
  if (!next_in_chain) return fence_expelled(message.decision);
  ++refused_;
}

void Membership::on_leave(MemberId from, TimePoint now) {
  Peer* peer = detector_.find(from);
  peer->leaving = true;
  if (view_.rank_of(from)) want_change(fmt::format("member {} leaves", from.value), now);
}

void Membership::on_link_down(MemberId peer, TimePoint now) {
  if (fenced_ || peer == self_) return;
  Peer& known = detector_.witness(peer);
  if (!known.link_down) known.link_down = now;
}

void Membership::on_certain_death(MemberId peer, std::optional<wire::Bytes> last_record, TimePoint now) {
  if (fenced_) return;
  if (peer == self_) return fence({StatusCode::fenced, "the liveness word of this process is marked dead"});
  mark_dead(peer, last_record, now);
}

void Membership::mark_dead(MemberId peer, const std::optional<wire::Bytes>& last_record, TimePoint now) {
  if (peer == self_) {
    ++refused_;
    return;
  }
  Peer& known = detector_.witness(peer);
  std::optional<Record> record = last_record ? decode_record(*last_record) : std::nullopt;
  if (known.dead && (known.record || !record)) return;  // nothing new
  known.dead = true;
  known.record = std::move(record);
  if (known.met) tell_death(peer, last_record);
  if (const std::optional<Record> read = known.record) learn(*read, now);
  if (fenced_ || !view_.rank_of(peer)) return;
  freeze();  // whoever proposes will ask for it
  want_change(fmt::format("member {} died", peer.value), now);
}

// To members of other hosts, which cannot see it.
void Membership::tell_death(MemberId peer, const std::optional<wire::Bytes>& last_record) {
  if (detector_.find(peer)->host != self_member_.host) return;
  for (const Member& member : view_.members)
    if (const Peer* other = detector_.find(member.id); member.host != self_member_.host && !other->dead)
      send(member.id, Died{view_.epoch, peer, last_record});
}

void Membership::learn(const Record& record, TimePoint now) {
  if (record.epoch > view_.epoch && record.installed) on(Decided{*record.installed}, now);
}

void Membership::on_report(Epoch epoch, wire::Bytes report, TimePoint now) {
  if (fenced_ || epoch != view_.epoch || freezing_ != Freezing::asked) return;
  freezing_ = Freezing::frozen;
  report_ = std::move(report);
  if (promise_owed_) answer_promise(record_.promised.proposer);
  advance(now);
}

void Membership::request_view_change(Status cause, TimePoint now) {
  if (!fenced_ && !outside()) want_change(cause.to_string(), now);
}

void Membership::leave(TimePoint now) {
  if (fenced_ || leaving_) return;
  leaving_ = true;
  if (outside()) return fence({StatusCode::shut_down, "it left before it was in a view"});
  send_all(Leave{view_.epoch});
  want_change("this member leaves", now);
}

void Membership::on_deadline(TimePoint now) {
  if (fenced_) return;
  // A machine that was stopped, or that starved this thread, hears its whole past as silence.
  if (const auto due = next_deadline(); due && now - *due > silence_ / 2) forgive(now - *due, now);
  if (now >= beat_due_) beat(now);
  if (detector_.check(now)) want_what_is_due(now);
  if (wanted_until_ && now >= *wanted_until_) {
    const std::string why =
        fmt::format("no quorum of {} for {} s: {}", to_string(view_),
                    std::chrono::duration_cast<std::chrono::seconds>(quorum_patience()).count(), wanted_why_);
    return fence({leaving_ ? StatusCode::timed_out : StatusCode::fenced, why});
  }
  // Only here, where a late clock was forgiven, does waiting turn into suspicion.
  if (round_ && now >= round_->patience) round_->overdue = true;
  if (round_) advance(now);
  if (round_ && round_->kill_patience && now >= *round_->kill_patience) round_->kill_patience.reset();
  if (round_ && now >= round_->patience) resend(now);
  if (!fenced_ && !round_ && propose_at_ && now >= *propose_at_) propose(now);
}

void Membership::beat(TimePoint now) {
  send_all(Heartbeat{view_.epoch});
  beat_due_ = now + std::min(silence_ / 4, kBeatPeriodMax);
}

void Membership::forgive(Duration late, TimePoint now) {
  detector_.forgive(now);
  if (wanted_until_) *wanted_until_ += late;
  if (round_) round_->patience += late;
}

std::optional<TimePoint> Membership::next_deadline() const {
  if (fenced_) return std::nullopt;
  std::optional<TimePoint> next = detector_.next_check();
  const auto include = [&next](const std::optional<TimePoint>& time) {
    if (time && (!next || *time < *next)) next = time;
  };
  if (view_.size() > 1) include(beat_due_);
  include(wanted_until_);
  if (round_) {
    include(round_->patience);
    include(round_->kill_patience);
  } else {
    include(propose_at_);
  }
  return next;
}

std::vector<Action> Membership::take_actions() {
  return std::exchange(actions_, {});
}

void Membership::freeze() {
  if (freezing_ != Freezing::running) return;
  freezing_ = Freezing::asked;
  actions_.emplace_back(Freeze{view_.epoch});
}

void Membership::persist() {
  actions_.emplace_back(Persist{encode_record(record_)});
}

void Membership::send(MemberId to, const Message& message) {
  actions_.emplace_back(Send{to, encode_message(message)});
}

void Membership::send_all(const Message& message) {
  const wire::Bytes bytes = encode_message(message);
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    if (peer != nullptr && !peer->dead) actions_.emplace_back(Send{member.id, bytes});
  }
}

bool Membership::is_successor(const Decision& decision) const {
  const View& next = decision.next;
  if (next.epoch.value != view_.epoch.value + 1) return false;
  const auto is_member = [this](const Member& member) {
    const auto rank = view_.rank_of(member.id);
    return rank && view_.members[static_cast<std::size_t>(rank->value)] == member;
  };
  if (std::all_of(next.members.begin(), next.members.end(), is_member)) return true;
  // A view that admits a newcomer drops nobody.
  return next.size() == view_.size() + 1 &&
         std::equal(view_.members.begin(), view_.members.end(), next.members.begin()) &&
         !view_.rank_of(next.members.back().id);
}

void Membership::install(const Decision& decision, TimePoint now) {
  if (!decision.next.rank_of(self_)) return fence_expelled(decision);
  // The members of a decision have promised, so they are frozen; anything else is a forged message.
  if (freezing_ != Freezing::frozen && !outside()) {
    ++refused_;
    return;
  }
  const Decision decided = decision;  // it may be part of what is reset now
  const View before = std::exchange(view_, decided.next);
  record_ = Record{view_.epoch, decided, {}, std::nullopt};
  freezing_ = Freezing::running;
  report_.reset();
  promise_owed_ = false;
  highest_number_ = 0;
  wanted_until_.reset();
  wanted_why_.clear();
  propose_at_.reset();
  round_.reset();
  wish_.reset();
  silence_ = std::chrono::milliseconds(view_.config.silence_ms);
  if (before.epoch.value == 0) beat_due_ = now;
  detector_.enter(view_, self_, now);
  persist();
  actions_.emplace_back(Install{view_, decided.verdict, decided.departures});
  meet_newcomers(before);
  want_what_is_due(now);
}

void Membership::fence(Status cause) {
  fenced_ = true;
  round_.reset();
  actions_.emplace_back(Fence{std::move(cause)});
}

void Membership::fence_expelled(const Decision& decision) {
  if (leaving_) return fence({StatusCode::shut_down, "this member has left"});
  std::string cause = "it was expelled by a later view";
  for (const Departure& departure : decision.departures)
    if (departure.member == self_) cause = departure.cause;
  fence({StatusCode::fenced,
         fmt::format("member {} is not in view {}: {}", self_.value, to_string(decision.next), cause)});
}

}  // namespace hora::elastic
