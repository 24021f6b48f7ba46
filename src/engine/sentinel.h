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
#include <set>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "elastic/membership.h"
#include "engine/engine.h"
#include "interfaces/clock.h"
#include "transports/control/mesh.h"
#include "transports/shm/liveness.h"
#include "transports/shm/segment.h"

namespace hora::engine {

// The control plane is shared by two protocols; the first byte of a message says whose it is.
enum class Subject : std::uint8_t { membership = 1, negotiation = 2 };

// Sends the engine's messages over the mesh.
class NegotiationLink final : public Messenger {
 public:
  explicit NegotiationLink(control::Mesh& mesh) noexcept : mesh_(mesh) {}
  Status send(MemberId to, std::span<const std::byte> message) override;

 private:
  control::Mesh& mesh_;
};

// What the sentinel knows of a peer on this host.
struct LocalPeer {
  UniqueFd pidfd;                               // empty where the peer runs in another pid namespace
  std::shared_ptr<const shm::Segment> segment;  // shared with the liveness watcher, which may still sleep on it
};

class Sentinel final : public control::LoopHandler, public shm::LivenessHandler, public ViewRequests {
 public:
  // All references outlive the sentinel; `own` is this member's segment.
  Sentinel(elastic::MembershipOptions options, MemberId self, const View& founding, Engine& engine, control::Mesh& mesh,
           shm::Segment& own, std::map<MemberId, LocalPeer> peers, const Clock& clock, const Log& log);

  // The thread's body. Returns after a fence, an orderly leave or stop().
  void run(shm::LivenessWatcher& watcher);

  // Thread safe: asks for an orderly departure; run() returns when it is done.
  void leave();
  // Thread safe: makes run() return as it is.
  void stop();
  [[nodiscard]] bool finished() const noexcept { return finished_.load(std::memory_order_acquire) != 0; }
  // At most until `timeout`; whether run() is over.
  bool wait_finished(Duration timeout) const;

  void request_view_change(const Status& cause) override;  // thread safe
  void on_peer_died(MemberId member) override;             // on the watcher's thread
  void on_self_marked() override;                          // on the watcher's thread

 private:
  struct Inbox {
    std::vector<MemberId> died;
    std::vector<Status> change_requests;
    bool leave = false;
    bool self_marked = false;
  };

  void on_message(MemberId from, std::span<const std::byte> message) override;
  void on_link_down(MemberId peer) override;
  void on_readable(int fd) override;
  void on_link(control::PeerLink) override {}
  void on_stream(MemberId, UniqueFd) override {}

  template <typename Change>
  void post(Change&& change);
  void accept_inbox();
  void certain_death(MemberId member);
  void execute_actions();
  void execute(const elastic::Freeze& action);
  void execute(const elastic::Persist& action);
  void execute(const elastic::Send& action);
  void execute(const elastic::Install& action);
  void execute(const elastic::Fence& action);
  void execute(const elastic::Kill& action);
  void watch_members(const View& view);

  const MemberId self_;
  Engine& engine_;
  control::Mesh& mesh_;
  shm::Segment& own_;
  const Clock& clock_;
  const Log& log_;
  std::map<MemberId, LocalPeer> peers_;
  elastic::Membership membership_;
  shm::LivenessWatcher* watcher_ = nullptr;
  std::ptrdiff_t left_in_order_ = 0;  // members, in all views so far
  std::atomic<std::uint32_t> finished_{0};
  std::atomic<bool> stopping_{false};

  Mutex mutex_;
  Inbox inbox_ GUARDED_BY(mutex_);
};

}  // namespace hora::engine
