// Decides the one chain of views (protocol laws 1, 8, 9, 11). Sans-IO: inputs are calls with the time, outputs are
// data.
//
// The members of view e decide its successor once: a proposer gathers promises (each with the frozen member's report),
// has one decision accepted by a quorum, and tells everybody to install it.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/random.h"
#include "base/time.h"
#include "base/wire.h"
#include "elastic/detector.h"
#include "elastic/messages.h"
#include "elastic/record.h"
#include "hora/status.hpp"
#include "hora/view.hpp"

namespace hora::elastic {

struct MembershipOptions {
  // What becomes of the operations under way, from the reports of the members that answered (those of `next` and of
  // those who leave). Pure: the same arguments give the same bytes.
  std::function<wire::Bytes(const View& old, const View& next, const std::map<MemberId, wire::Bytes>& reports)> decide;
  // Whether the members stand where a newcomer may enter: at one step boundary, nothing under way. Asked by a proposer
  // that was asked to admit, once all members of `old` have reported. Empty: they always do. False: the view is decided
  // without the newcomer.
  std::function<bool(const View& old, const std::map<MemberId, wire::Bytes>& reports)> may_enter;
  Duration link_grace = std::chrono::milliseconds(200);    // from a lost link to suspicion, without certain death
  Duration backoff = std::chrono::milliseconds(100);       // before another than the first living member proposes
  Duration quorum_timeout = std::chrono::seconds(10);      // at least; see Membership::quorum_patience()
  Duration kill_grace = std::chrono::milliseconds(1'000);  // from Kill to expulsion without certain death
  bool kill_suspects = false;                              // emit Kill before a suspect of the own host is expelled
};

// Stop the data plane: no unit becomes DONE until Install. Answer with on_report(epoch, ...). At most once in a view.
struct Freeze {
  Epoch epoch;
};
// Write these bytes where they outlive this process, complete, before any later Send leaves. A death in the middle of
// the write must leave the bytes before it readable (two places, written in turn).
struct Persist {
  wire::Bytes record;
};
struct Send {
  MemberId to;
  wire::Bytes message;
};
// Enter `next`. This member is in it. `verdict` is what MembershipOptions::decide returned at the proposer. The first
// Install of a newcomer may be of any epoch; whoever else is new in `next` stands last in it.
struct Install {
  View next;
  wire::Bytes verdict;
  std::vector<Departure> departures;
};
// This member takes no further part: StatusCode::fenced when it was expelled or has no quorum, shut_down when it left,
// timed_out when it wanted to and no quorum has heard of it.
// The last action of all. Messages sent before it must still be flushed.
struct Fence {
  Status cause;
};
// SIGKILL this suspect, which is on the own host; its certain death is then waited for, for kill_grace.
struct Kill {
  MemberId suspect;
};

// Ordering law: actions are executed in the order given. Freeze(e) precedes Install(e + 1) precedes all that is tagged
// e + 1, and a Persist precedes every Send that relies on it.
using Action = std::variant<Freeze, Persist, Send, Install, Fence, Kill>;

// Not thread safe. Never blocks, never reads a clock. After each input the driver executes take_actions(), and it
// sleeps until next_deadline(); what can be read from the links is handed over before on_deadline is called.
class Membership {
 public:
  // `founding` holds `self`. The seed only spreads the times at which members propose; give each member another.
  // The first actions (the first record) are there at once.
  Membership(MembershipOptions options, MemberId self, View founding, std::uint64_t seed, TimePoint now);
  // A newcomer: in no view (view() has epoch 0 and no members) until one with it is decided, then a member like any
  // other. Its links to all members are up before any of them is asked to admit it. It waits for as long as it takes.
  static Membership outsider(MembershipOptions options, Member self, std::uint64_t seed, TimePoint now);

  // Malformed messages and those of strangers are refused without effect.
  void on_message(MemberId from, std::span<const std::byte> message, TimePoint now);
  // A suspicion only, after link_grace.
  void on_link_down(MemberId peer, TimePoint now);
  // `peer` decides nothing more. `last_record` is what it persisted last, nullopt when that cannot be read (yet: a
  // later call may bring it).
  void on_certain_death(MemberId peer, std::optional<wire::Bytes> last_record, TimePoint now);
  // The data plane is frozen in `epoch`, and this is its exact state. Ignored unless asked for by Freeze.
  void on_report(Epoch epoch, wire::Bytes report, TimePoint now);
  // Wants a new view with the members of this one, so that a verdict can end an operation that waits too long.
  void request_view_change(Status cause, TimePoint now);
  // Wants a view with `newcomer` as its last member. The wish holds until the next install, with or without it. No
  // effect for who is or was in a view, or is known to be gone; nor while this member leaves.
  void admit(Member newcomer, TimePoint now);
  // Wants a view without this member; ends with Fence(shut_down), or timed_out without a quorum.
  void leave(TimePoint now);
  void on_deadline(TimePoint now);

  [[nodiscard]] std::optional<TimePoint> next_deadline() const;
  [[nodiscard]] std::vector<Action> take_actions();
  [[nodiscard]] const View& view() const noexcept { return view_; }
  [[nodiscard]] bool fenced() const noexcept { return fenced_; }
  // Messages refused since the start: malformed, from strangers, or of no meaning in this state.
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }

 private:
  Membership(MembershipOptions options, Member self, View view, std::uint64_t seed, TimePoint now);

  // How far the data plane is stopped in this view.
  enum class Freezing : std::uint8_t { running, asked, frozen };
  // This member's own attempt to decide the successor.
  struct Round {
    Ballot ballot;
    TimePoint patience;    // until the question is repeated
    bool overdue = false;  // patience has passed: who has not promised counts as a suspect
    std::map<MemberId, Promise> promises;
    std::set<MemberId> killed;
    std::optional<TimePoint> kill_patience;
    std::optional<Decision> proposal;  // set: promises are complete, acceptances are collected
    std::set<MemberId> accepted;
  };

  void dispatch(MemberId from, const Message& message, TimePoint now);
  void answer_stranger(MemberId from, const Message& message, TimePoint now);
  void on(MemberId from, const Prepare& message, TimePoint now);
  void on(MemberId from, const Promise& message, TimePoint now);
  void on(MemberId from, const Accept& message, TimePoint now);
  void on(MemberId from, const Accepted& message, TimePoint now);
  void on(MemberId from, const Refuse& message, TimePoint now);
  void on(const Decided& message, TimePoint now);
  void on_leave(MemberId from, TimePoint now);
  void help_behind(MemberId peer);
  void mark_dead(MemberId peer, const std::optional<wire::Bytes>& last_record, TimePoint now);
  void tell_death(MemberId peer, const std::optional<wire::Bytes>& last_record);
  void learn(const Record& record, TimePoint now);

  // membership.cc: the member.
  void freeze();
  void persist();
  void send(MemberId to, const Message& message);
  void send_all(const Message& message);
  void answer_promise(MemberId to);
  void install(const Decision& decision, TimePoint now);
  void fence(Status cause);
  void fence_expelled(const Decision& decision);
  [[nodiscard]] bool is_successor(const Decision& decision) const;
  void beat(TimePoint now);
  void forgive(Duration late, TimePoint now);

  // membership_proposer.cc: the proposer.
  void want_change(const std::string& why, TimePoint now);
  void want_what_is_due(TimePoint now);
  void consider_proposing(TimePoint now);
  void arm_proposal(Duration delay, TimePoint now);
  [[nodiscard]] MemberId preferred_proposer() const;
  [[nodiscard]] bool follows_living_proposer() const;
  // How long a change is wanted without a quorum before this member fences. A member may be mute for `silence_` and
  // answer then, and a proposer that gave up another's round asks anew.
  [[nodiscard]] Duration quorum_patience() const { return std::max<Duration>(options_.quorum_timeout, 3 * silence_); }
  [[nodiscard]] bool everybody_leaves() const;
  void propose(TimePoint now);
  void advance(TimePoint now);
  void resend(TimePoint now);
  [[nodiscard]] bool outbid() const;
  [[nodiscard]] bool answers_complete() const;
  [[nodiscard]] bool kills_pending(TimePoint now);
  [[nodiscard]] std::optional<Decision> accepted_before() const;
  [[nodiscard]] Decision make_decision() const;
  void conclude_promises(TimePoint now);

  // membership_newcomer.cc: who joins, and what others know of it.
  [[nodiscard]] bool outside() const noexcept { return view_.epoch.value == 0; }
  void on_decided_outside(const Decision& decision, TimePoint now);
  [[nodiscard]] bool admits(const Decision& decision, const std::map<MemberId, wire::Bytes>& reports) const;
  void tell_newcomers(const Decision& decision);
  void meet_newcomers(const View& before);

  const MembershipOptions options_;
  const Member self_member_;
  const MemberId self_;
  Duration silence_;
  Random random_;
  Detector detector_;
  View view_;

  // About the successor of view_; all of it starts anew with each view.
  Record record_;
  Freezing freezing_ = Freezing::running;
  std::optional<wire::Bytes> report_;
  bool promise_owed_ = false;              // record_.promised was given, and waits for the report to be told
  std::uint64_t highest_number_ = 0;       // of the ballots seen
  std::optional<TimePoint> wanted_until_;  // a change is wanted; fence at this time
  std::string wanted_why_;
  std::optional<TimePoint> propose_at_;
  std::optional<Round> round_;
  std::optional<Member> wish_;  // to be admitted

  TimePoint beat_due_;
  bool leaving_ = false;
  bool fenced_ = false;
  std::uint64_t refused_ = 0;
  std::vector<Action> actions_;
};

}  // namespace hora::elastic
