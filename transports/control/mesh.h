// The control plane: a stream socket to every other member (Unix inside a host, TCP between hosts), and the event loop
// of the sentinel.
//
// Every connection opens with the handshake of base/handshake.h, in which members of one host pass each other their
// shared memory segments. A link is made once: among founders by connect_all(), later by a newcomer that dials. A link
// that went down stays down, and its member id never comes again.
//
// Fork: descriptors are close-on-exec, but a child that only forks inherits them, and while it lives the death of its
// parent does not close the links. Closing shuts the connection down first, so an orderly end is seen at once; a death
// is then seen only by the pidfd and the liveness word, which do not pass to the child. A Mesh destroyed in a forked
// child touches nothing but the child's own descriptors.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/frame_socket.h"
#include "base/handshaking_socket.h"
#include "base/log.h"
#include "base/mutex.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "interfaces/messenger.h"
#include "transports/control/peer_link.h"
#include "transports/control/reception.h"

namespace hora::control {

class LoopHandler : public MessageHandler {
 public:
  // A watched descriptor is readable, and stays so until it is read or unwatched. Spurious calls are possible.
  virtual void on_readable(int fd) = 0;
  // A newcomer is connected, its data sockets included: send() to it works from now on. Comes before its messages.
  virtual void on_link(PeerLink link) = 0;
  // A linked member opened a stream of its own (open_stream()). The socket is non-blocking.
  virtual void on_stream(MemberId from, UniqueFd socket) = 0;
};

// Where to listen for other hosts.
struct TcpAddress {
  std::string host;              // numeric; empty: nowhere
  std::uint16_t port_first = 0;  // 0: any port
  std::uint16_t port_last = 0;
};

class Mesh : public Messenger {
 public:
  // Binds and listens; peers are accepted in connect_all() and by the loop. `clock` and `log` outlive the mesh.
  static Result<std::unique_ptr<Mesh>> listen(Identity identity, const TcpAddress& tcp, const Clock& clock,
                                              const Log& log);
  ~Mesh() override;
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  // For Member::address: "tcp:HOST:PORT", or empty where it does not listen for other hosts.
  [[nodiscard]] const std::string& address() const noexcept { return address_; }

  // Founders only, once: connects to every other member of `view`; each rank dials the lower ones and accepts the
  // higher ones. Returns the links in rank order, without `self`. Strangers are refused with a logged reason. At
  // `deadline` StatusCode::timed_out names the ranks that are missing. `own_segment` is passed to every peer of this
  // host, to newcomers too, and outlives the mesh; -1 passes none.
  Result<std::vector<PeerLink>> connect_all(const View& view, Rank self, int own_segment, TimePoint deadline);

  // Newcomers: connects to one member. Thread safe, also while the loop runs, which may deliver messages of the peer
  // before this returns; once it returned, the peer's on_link() has been called or is about to be. An error where a
  // link to it exists or existed; peer_failed where nobody listens there any more. `own_segment` as in connect_all().
  Result<PeerLink> dial(const Member& peer, int own_segment, const AgreedConfig& config, TimePoint deadline);
  // A stream of its own to a member that is linked; it gets the other end by on_stream(). It ends when the other host
  // is not there any more. Thread safe.
  Result<UniqueFd> open_stream(const Member& peer, const AgreedConfig& config, TimePoint deadline);
  // Makes dial() and open_stream() return shut_down, now and later. Thread safe.
  void cancel_dials() noexcept;
  // Ends all links and stops listening: once the loop runs no more, nobody should wait for an answer. Thread safe.
  void close() noexcept;

  // Messenger: thread safe, any thread. A message over 16 MiB, or one that finds more than 16 MiB queued, closes the
  // link.
  Status send(MemberId to, std::span<const std::byte> message) override;

  // Ends the link to `peer`, on both sides, after what has come through it already. Thread safe.
  void disconnect(MemberId peer);

  // The loop; one thread. run_once() delivers what there is and returns; it sleeps until something happens, wake() is
  // called or `deadline` passed. The handler may send, watch and unwatch. From connect_all() or the first dial() on,
  // it also accepts newcomers.
  void run_once(std::optional<TimePoint> deadline, LoopHandler& handler);
  // Writes what waits in the queues of all links, and delivers nothing; until `deadline` at most. Instead of the loop.
  void drain(TimePoint deadline);
  Status watch(int fd);
  void unwatch(int fd);
  // Makes the current or the next run_once() return. Thread safe and async-signal-safe.
  void wake() noexcept;

 private:
  struct Link {
    MemberId peer;
    std::uint32_t index = 0;  // in links_
    // Closed by the loop, under the mutex, once the link is broken: others use it under the mutex only.
    UniqueFd socket;
    FrameReader reader;  // the loop's
    bool down = false;   // the loop's
    Mutex mutex;
    FrameWriter writer GUARDED_BY(mutex);
    bool broken GUARDED_BY(mutex) = false;         // of no more use: the loop takes it down
    bool awaits_output GUARDED_BY(mutex) = false;  // the loop watches for room in the socket
  };
  enum class Source : std::uint32_t { wake, descriptor, link, reception };
  // What this member says to newcomers.
  struct Welcome {
    int own_segment = -1;
    AgreedConfig config;
  };

  Mesh(Identity identity, const Clock& clock, const Log& log);

  Status open(const TcpAddress& tcp);
  Status open_reception(const Welcome& welcome, std::size_t expected);
  void open_reception_if_asked();
  void ask_for_reception(const Welcome& welcome);
  Result<PeerLink> adopt(Connection connection, const AgreedConfig& config);
  [[nodiscard]] Link* find(MemberId peer);
  [[nodiscard]] Link& link_at(std::uint32_t index);
  Status control_epoll(int operation, int fd, std::uint32_t events, Source source, std::uint32_t index);
  void set_awaits_output(Link& link, bool awaits) REQUIRES(link.mutex);
  [[nodiscard]] int timeout_ms(std::optional<TimePoint> deadline) const;
  void receive_newcomers(LoopHandler& handler);
  void deliver_readable(Link& link, LoopHandler& handler);
  Status deliver_frames(Link& link, LoopHandler& handler);
  void flush(Link& link);
  std::vector<Link*> links_with_output();
  void take_down(Link& link, const Status& why, LoopHandler& handler);

  Identity identity_;
  const Clock& clock_;
  const Log& log_;
  pid_t owner_;  // a forked child must not shut our links down
  std::string address_;
  std::vector<UniqueFd> listeners_;  // Unix, then TCP
  UniqueFd epoll_;
  UniqueFd wake_;
  UniqueFd cancel_;                          // readable, for good, after cancel_dials()
  std::unique_ptr<Reception> reception_;     // the loop's; none before connect_all() or the first dial()
  AgreedConfig config_;                      // the loop's, with the reception
  TimePoint open_again_ = TimePoint::max();  // the loop's: opening the reception failed, and is tried again then
  std::set<int> watched_;

  Mutex links_mutex_;
  std::vector<std::unique_ptr<Link>> links_ GUARDED_BY(links_mutex_);  // never removed, so that no id comes again
  bool receives_ GUARDED_BY(links_mutex_) = false;                     // newcomers are accepted, or soon will be
  std::optional<Welcome> asked_ GUARDED_BY(links_mutex_);  // by the first dial(), until the reception is open
};

}  // namespace hora::control
