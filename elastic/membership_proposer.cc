// The proposer's half of Membership: when to propose, whom to wait for, what to decide.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "elastic/membership.h"
#include "elastic/quorum.h"

namespace hora::elastic {

void Membership::want_change(const std::string& why, TimePoint now) {
  if (fenced_) return;
  if (leaving_ && everybody_leaves()) {
    // There is nobody left to decide for.
    return fence({StatusCode::shut_down, "every member has left"});
  }
  if (!wanted_until_) {
    wanted_until_ = now + quorum_patience();
    wanted_why_ = why;
  }
  if (round_)
    advance(now);
  else
    consider_proposing(now);
}

void Membership::want_what_is_due(TimePoint now) {
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    if (fenced_ || peer == nullptr) continue;
    if (peer->dead) {
      freeze();
      want_change(fmt::format("member {} died", member.id.value), now);
    } else if (!peer->suspicion.empty()) {
      want_change(fmt::format("member {}: {}", member.id.value, peer->suspicion), now);
    } else if (peer->leaving) {
      want_change(fmt::format("member {} leaves", member.id.value), now);
    }
  }
  if (leaving_) want_change("this member leaves", now);
}

MemberId Membership::preferred_proposer() const {
  const auto alive = [this](const Member& member) {
    const Peer* peer = detector_.find(member.id);
    return peer == nullptr || peer->alive();
  };
  const auto stays = [this](const Member& member) {
    const Peer* peer = detector_.find(member.id);
    return peer == nullptr ? !leaving_ : !peer->leaving;
  };
  for (const Member& member : view_.members)
    if (alive(member) && stays(member)) return member.id;
  for (const Member& member : view_.members)
    if (alive(member)) return member.id;
  return self_;
}

bool Membership::follows_living_proposer() const {
  if (record_.promised.number == 0) return false;
  const Peer* proposer = detector_.find(record_.promised.proposer);
  return proposer != nullptr && proposer->alive();
}

bool Membership::everybody_leaves() const {
  return std::all_of(view_.members.begin(), view_.members.end(), [this](const Member& member) {
    const Peer* peer = detector_.find(member.id);
    return peer == nullptr || peer->dead || peer->leaving;
  });
}

void Membership::consider_proposing(TimePoint now) {
  // A living proposer gets the time to suspect one that does not answer it.
  if (follows_living_proposer()) return arm_proposal(2 * silence_, now);
  const MemberId preferred = preferred_proposer();
  if (preferred == self_) return propose(now);
  const auto distance = view_.rank_of(self_)->value - view_.rank_of(preferred)->value;
  arm_proposal(options_.backoff * std::max(distance, 1), now);
}

void Membership::arm_proposal(Duration delay, TimePoint now) {
  const Duration jitter(
      static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(options_.backoff.count()) + 1)));
  const TimePoint at = now + delay + jitter;
  if (!propose_at_ || at < *propose_at_) propose_at_ = at;
}

void Membership::propose(TimePoint now) {
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    if (peer != nullptr && peer->record && peer->record->epoch == view_.epoch)
      highest_number_ = std::max(highest_number_, peer->record->promised.number);
  }
  Round round;
  round.ballot = {++highest_number_, self_};
  round.patience = now + silence_;
  if (round_) {
    round.killed = round_->killed;
    round.kill_patience = round_->kill_patience;
  }
  round_ = std::move(round);
  propose_at_.reset();
  promise_owed_ = false;
  record_.promised = round_->ballot;
  persist();
  freeze();
  send_all(Prepare{view_.epoch, round_->ballot});
  advance(now);
}

// A dead member promised a higher ballot than this round's: its record votes for none below that.
bool Membership::outbid() const {
  return std::any_of(view_.members.begin(), view_.members.end(), [this](const Member& member) {
    const Peer* peer = detector_.find(member.id);
    return peer != nullptr && peer->record && peer->record->epoch == view_.epoch &&
           peer->record->promised > round_->ballot;
  });
}

void Membership::advance(TimePoint now) {
  if (!round_ || fenced_) return;
  if (outbid()) return propose(now);
  if (!round_->proposal) {
    if (freezing_ == Freezing::frozen && !round_->promises.contains(self_))
      round_->promises[self_] = Promise{view_.epoch, round_->ballot, *report_, record_.accepted};
    if (!answers_complete() || kills_pending(now)) return;
    std::set<MemberId> promised;
    for (const auto& [id, promise] : round_->promises) promised.insert(id);
    if (!is_quorum(view_, round_->ballot, promised, detector_)) return;
    conclude_promises(now);
  }
  if (fenced_ || !is_quorum(view_, round_->ballot, round_->accepted, detector_)) return;
  const Decision decision = *round_->proposal;
  send_all(Decided{decision});  // those that it expels too, so that they fence
  tell_newcomers(decision);
  install(decision, now);
}

bool Membership::answers_complete() const {
  return std::all_of(view_.members.begin(), view_.members.end(), [&](const Member& member) {
    if (round_->promises.contains(member.id)) return true;
    const Peer* peer = detector_.find(member.id);
    return peer != nullptr && (!peer->alive() || round_->overdue);
  });
}

bool Membership::kills_pending(TimePoint now) {
  if (!options_.kill_suspects) return false;
  bool pending = false;
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    if (peer == nullptr || peer->dead || peer->host != self_member_.host || round_->promises.contains(member.id))
      continue;
    if (round_->killed.insert(member.id).second) {
      actions_.emplace_back(Kill{member.id});
      round_->kill_patience = now + options_.kill_grace;
    }
    pending = true;
  }
  if (pending && round_->kill_patience && now < *round_->kill_patience) return true;
  round_->kill_patience.reset();
  return false;
}

std::optional<Decision> Membership::accepted_before() const {
  const Acceptance* latest = nullptr;
  const auto consider = [&latest](const std::optional<Acceptance>& accepted) {
    if (accepted && (latest == nullptr || latest->ballot < accepted->ballot)) latest = &*accepted;
  };
  for (const auto& [id, promise] : round_->promises) consider(promise.accepted);
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    if (peer != nullptr && peer->record && peer->record->epoch == view_.epoch) consider(peer->record->accepted);
  }
  if (latest == nullptr) return std::nullopt;
  return latest->decision;
}

Decision Membership::make_decision() const {
  Decision decision;
  decision.next = view_;
  decision.next.epoch.value += 1;
  decision.next.members.clear();
  std::map<MemberId, wire::Bytes> reports;
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    const auto promise = round_->promises.find(member.id);
    if (peer != nullptr && peer->dead) {
      decision.departures.push_back({member.id, "its process died", true, peer->leaving});
      continue;
    }
    if (promise == round_->promises.end()) {
      const std::string cause = peer->suspicion.empty() ? "it did not answer a view change in time" : peer->suspicion;
      decision.departures.push_back({member.id, cause, false, false});
      continue;
    }
    reports[member.id] = promise->second.report;
    if (peer == nullptr ? leaving_ : peer->leaving)
      decision.departures.push_back({member.id, "it left", false, true});
    else
      decision.next.members.push_back(member);
  }
  if (admits(decision, reports)) decision.next.members.push_back(*wish_);
  decision.verdict = options_.decide(view_, decision.next, reports);
  return decision;
}

void Membership::conclude_promises(TimePoint now) {
  std::optional<Decision> decision = accepted_before();
  if (!decision) decision = make_decision();
  if (decision->next.members.empty()) return fence({StatusCode::shut_down, "left, and nobody stays that answers"});
  round_->proposal = std::move(*decision);
  round_->patience = now + silence_;
  round_->accepted.insert(self_);
  record_.accepted = Acceptance{round_->ballot, *round_->proposal};
  persist();
  send_all(Accept{view_.epoch, *record_.accepted});
}

// What this round asked may have been lost with a link; asking again is harmless.
void Membership::resend(TimePoint now) {
  round_->patience = now + silence_;
  if (round_->proposal)
    send_all(Accept{view_.epoch, {round_->ballot, *round_->proposal}});
  else
    send_all(Prepare{view_.epoch, round_->ballot});
}

void Membership::on(MemberId from, const Promise& message, TimePoint now) {
  const bool sound =
      !message.accepted || (message.accepted->ballot <= message.ballot && is_successor(message.accepted->decision));
  if (!sound) {
    ++refused_;
    return;
  }
  if (!round_ || message.ballot != round_->ballot || round_->proposal) return;  // of an older attempt
  round_->promises.insert_or_assign(from, message);
  advance(now);
}

void Membership::on(MemberId from, const Accepted& message, TimePoint now) {
  if (!round_ || !round_->proposal || message.ballot != round_->ballot || !view_.rank_of(from)) return;
  round_->accepted.insert(from);
  advance(now);
}

void Membership::on(MemberId, const Refuse& message, TimePoint now) {
  highest_number_ = std::max(highest_number_, message.promised.number);
  if (!round_ || message.promised <= round_->ballot) return;
  round_.reset();
  arm_proposal(options_.backoff, now);
}

}  // namespace hora::elastic
