// Both ends of joining: the newcomer until its first view, and the members that admit it (protocol law 10).
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "elastic/membership.h"

namespace hora::elastic {

Membership Membership::outsider(MembershipOptions options, Member self, std::uint64_t seed, TimePoint now) {
  // Its record of no promise is written at once: should it die before its first install, it votes through that.
  return Membership(std::move(options), std::move(self), View{}, seed, now);
}

void Membership::on_decided_outside(const Decision& decision, TimePoint now) {
  if (decision.next.rank_of(self_)) {
    // Who is in a view but not as its newcomer has promised in the one before: it cannot be this process.
    if (decision.next.members.back() == self_member_) return install(decision, now);
    ++refused_;
    return;
  }
  // A view that it never heard of had it, and this one has dropped it: its id was used up. Any other view without it is
  // none of its business.
  const bool dropped = std::any_of(decision.departures.begin(), decision.departures.end(),
                                   [this](const Departure& departure) { return departure.member == self_; });
  if (dropped) fence_expelled(decision);
}

void Membership::admit(Member newcomer, TimePoint now) {
  const bool known = newcomer.id == self_ || !detector_.may_be_newcomer(newcomer.id);
  if (fenced_ || outside() || leaving_ || known) return;
  const std::string why = fmt::format("member {} joins", newcomer.id.value);
  wish_ = std::move(newcomer);
  const bool quiet = !wanted_until_ && !round_ && !follows_living_proposer();
  want_change(why, now);
  // Nobody else knows of it, so there is nobody to leave the first word to, and all members stand still meanwhile.
  if (quiet && !round_ && !fenced_) propose(now);
}

// A view either drops members or admits one. So the newcomer never meets the verdict on an operation that a failure
// interrupted, every member has said that it stands at the boundary, and whoever is asked to accept such a view can
// tell by itself that it is sound. It costs the newcomer one more try.
bool Membership::admits(const Decision& decision, const std::map<MemberId, wire::Bytes>& reports) const {
  return wish_ && decision.departures.empty() && detector_.may_be_newcomer(wish_->id) &&
         (!options_.may_enter || options_.may_enter(view_, reports));
}

// If this is lost it answers the heartbeats of its view with one of epoch 0, and is told again.
void Membership::tell_newcomers(const Decision& decision) {
  for (const Member& member : decision.next.members)
    if (!view_.rank_of(member.id)) send(member.id, Decided{decision});
}

// What was seen of a newcomer while it was a stranger counts from now on, and other hosts have not seen it.
void Membership::meet_newcomers(const View& before) {
  for (const Member& member : view_.members) {
    const Peer* peer = detector_.find(member.id);
    if (before.rank_of(member.id) || peer == nullptr || !peer->dead) continue;
    tell_death(member.id, peer->record ? std::optional(encode_record(*peer->record)) : std::nullopt);
  }
}

}  // namespace hora::elastic
