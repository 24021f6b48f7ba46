// The sentinel: a thread that sleeps in the kernel on control sockets, pidfds and timers, and runs the membership
// machine.
//
// It answers promises and installs views by itself. Nothing that a caller's thread can hold stands in its way but the
// engine's token, which drivers give up within one step.
#pragma once

#include <atomic>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "elastic/membership.h"
#include "engine/donor.h"
#include "engine/engine.h"
#include "engine/newcomer.h"
#include "engine/subject_link.h"
#include "interfaces/clock.h"
#include "transports/control/mesh.h"
#include "transports/shm/liveness.h"
#include "transports/shm/segment.h"

namespace hora::engine {

// What the sentinel knows of a peer on this host.
struct LocalPeer {
  UniqueFd pidfd;                               // empty where the peer runs in another pid namespace
  std::shared_ptr<const shm::Segment> segment;  // shared with the liveness watcher, which may still sleep on it
  bool gone = false;                            // known dead; on another host, where no pidfd tells, its link is lost
};

// What the sentinel asks of the session, on its own thread.
class SentinelHost {
 public:
  virtual ~SentinelHost() = default;
  // A link to a member or newcomer: its segment and data sockets are for the data plane.
  virtual Result<LocalPeer> meet(control::PeerLink link) = 0;
  // `view` is about to be installed, and the engine is frozen: the data plane takes over what belongs to its newcomers.
  // `somebody_died`: not all who are not in it any more have left in order.
  virtual Status prepare(const View& view, bool somebody_died) = 0;
  // `member` is not in the view that was installed now, and will be in no later one: what came with its link can go.
  virtual void forget(MemberId member) = 0;
  // This newcomer has become a member: the engine from now on, with `done` operations behind it.
  virtual Result<Engine*> enter(const View& view, const Positions& done) = 0;
};

// What a sentinel works with; all of it outlives the sentinel. `own` is this member's segment.
struct Surroundings {
  Donor& donor;
  SentinelHost& host;
  control::Mesh& mesh;
  shm::Segment& own;
  const Clock& clock;
  const Log& log;
};

// Not a member yet.
struct Joining {
  Newcomer& newcomer;
  std::vector<std::pair<MemberId, wire::Bytes>> early = {};  // for the engine that there will be
};

// Until its first install a newcomer is joining; founders, and it from then on, have an engine.
using Role = std::variant<Joining, Engine*>;

class Sentinel final : public control::LoopHandler, public shm::LivenessHandler, public ViewRequests {
 public:
  // `peers`: who is linked already.
  Sentinel(elastic::Membership membership, Role role, std::map<MemberId, LocalPeer> peers,
           const Surroundings& surroundings);

  // The thread's body. Returns after a fence, an orderly leave or stop().
  void run(shm::LivenessWatcher& watcher);

  // Thread safe: asks for an orderly departure; run() returns when it is done.
  void leave();
  // Thread safe: makes run() return as it is.
  void stop();
  [[nodiscard]] bool finished() const noexcept { return finished_.load(std::memory_order_acquire) != 0; }
  // At most until `timeout`; whether run() is over.
  bool wait_finished(Duration timeout) const;
  // Why run() is over: shut_down after an orderly departure, ok after stop(). Valid once finished().
  [[nodiscard]] const Status& cause() const noexcept { return cause_; }

  // Thread safe: a link that another thread has dialed.
  void add_link(control::PeerLink link);
  // Thread safe: all members stand at a boundary in view `epoch`, where `newcomer` should enter. Ends that view in any
  // case.
  void admit(MemberId newcomer, Epoch epoch);
  // Thread safe: no data pass between this member and `peer` any more.
  void on_data_link_down(MemberId peer);
  void request_view_change(const Status& cause) override;  // thread safe
  void on_peer_ended(MemberId member) override;            // on the watcher's thread
  void on_self_marked() override;                          // on the watcher's thread

 private:
  struct Inbox {
    std::vector<MemberId> died;
    std::vector<MemberId> lost;  // their data links
    std::vector<Status> change_requests;
    std::vector<control::PeerLink> links;
    std::optional<std::pair<MemberId, Epoch>> admission;
    bool leave = false;
    bool self_marked = false;
  };

  void on_message(MemberId from, std::span<const std::byte> message) override;
  void on_link_down(MemberId peer) override;
  void on_readable(int fd) override;
  void on_link(control::PeerLink link) override;
  void on_stream(MemberId from, UniqueFd socket) override;
  void on_join_message(MemberId from, std::span<const std::byte> message);
  void on_engine_message(MemberId from, std::span<const std::byte> message);

  // Null where the role is another one.
  [[nodiscard]] Joining* joining() noexcept { return std::get_if<Joining>(&role_); }
  [[nodiscard]] Engine* engine() noexcept;
  [[nodiscard]] bool ending() const noexcept { return fenced_ || stopping_.load(std::memory_order_acquire); }
  template <typename Change>
  void post(Change&& change);
  void accept_inbox();
  void cut_dead_links(TimePoint now);
  void watch_process(MemberId id, const LocalPeer& peer);
  void welcome(MemberId newcomer);
  void carry_out_admission(MemberId newcomer, Epoch epoch);
  void certain_death(MemberId member);
  void execute_actions();
  void execute(const elastic::Freeze& action);
  void execute(const elastic::Persist& action);
  void execute(const elastic::Send& action);
  void execute(const elastic::Install& action);
  Status enter(const elastic::Install& action);
  Status install(const elastic::Install& action);
  void execute(const elastic::Fence& action);
  void execute(const elastic::Kill& action);
  void watch_members(const View& view);
  void forget_departed(const elastic::Install& installed);

  Role role_;
  Donor& donor_;
  SentinelHost& host_;
  control::Mesh& mesh_;
  shm::Segment& own_;
  const Clock& clock_;
  const Log& log_;
  std::map<MemberId, LocalPeer> peers_;   // linked: members and newcomers
  std::map<MemberId, Member> newcomers_;  // introduced, and in no view yet
  // Through whose links no data pass, until their control links are cut.
  std::map<MemberId, TimePoint> dead_links_;
  elastic::Membership membership_;
  shm::LivenessWatcher* watcher_ = nullptr;
  std::ptrdiff_t left_in_order_ = 0;  // members, in all views so far
  std::atomic<std::uint32_t> finished_{0};
  std::atomic<bool> stopping_{false};  // by stop()
  bool fenced_ = false;
  Status cause_;  // of the fence

  Mutex mutex_;
  Inbox inbox_ GUARDED_BY(mutex_);
};

}  // namespace hora::engine
