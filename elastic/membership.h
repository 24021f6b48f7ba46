// Decides the one chain of views (protocol laws 1, 8, 9, 11). Sans-IO: inputs are calls with the time, outputs are data.
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
  Duration link_grace = std::chrono::milliseconds(200);      // from a lost link to suspicion, without certain death
  Duration backoff = std::chrono::milliseconds(100);         // before another than the first living member proposes
  Duration quorum_timeout = std::chrono::seconds(10);        // a wanted change without a quorum for this long: fence
  Duration kill_grace = std::chrono::milliseconds(1'000);    // from Kill to expulsion without certain death
  bool kill_suspects = false;                                // emit Kill before a suspect of the own host is expelled
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
// Enter `next`. This member is in it. `verdict` is what MembershipOptions::decide returned at the proposer.
struct Install {
  View next;
  wire::Bytes verdict;
  std::vector<Departure> departures;
};
// This member takes no further part: StatusCode::fenced when it was expelled or has no quorum, shut_down when it left.
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
  // Wants a view without this member; ends with Fence(shut_down).
  void leave(TimePoint now);
  void on_deadline(TimePoint now);

  [[nodiscard]] std::optional<TimePoint> next_deadline() const;
  [[nodiscard]] std::vector<Action> take_actions();
  [[nodiscard]] const View& view() const noexcept { return view_; }
  [[nodiscard]] bool fenced() const noexcept { return fenced_; }
  // Messages refused since the start: malformed, from strangers, or of no meaning in this state.
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }

 private:
};

}  // namespace hora::elastic
