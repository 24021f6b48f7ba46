// The accepting side of the mesh: shakes hands with whoever connects, keeps strangers out, and puts the connections of
// a link together. Never blocks.
//
// Limits: the connections whose handshake is under way, the links that are put together, and the time of both.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/handshaking_socket.h"
#include "base/log.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "transports/control/peer_link.h"

namespace hora::control {

struct Arrival {
  Connection connection;
  bool is_stream = false;  // that a linked member opened: it has no more than its id and socket
};

class Reception {
 public:
  struct Terms {
    int own_segment = -1;          // passed to members of this host; -1: none
    std::size_t data_sockets = 0;  // of each link
    std::size_t expected = 0;      // connections that may be under way at once beside those of strangers
  };
  // Whether this member has or had a link already.
  using Linked = std::function<bool(MemberId)>;

  // `identity`, `listeners`, `clock` and `log` outlive the reception.
  static Result<std::unique_ptr<Reception>> open(const Identity& identity, const std::vector<UniqueFd>& listeners,
                                                 const Terms& terms, const Clock& clock, const Log& log);

  void set_linked(Linked linked) { linked_ = std::move(linked); }

  // Readable when advance() has something to do; next_timer() says when it has without that (max(): never).
  [[nodiscard]] int fd() const noexcept { return epoll_.get(); }
  [[nodiscard]] TimePoint next_timer() const;
  void advance();

  // What has come, in order.
  [[nodiscard]] bool has_arrivals() const noexcept { return !arrivals_.empty(); }
  std::optional<Arrival> take_arrival();
  // Out of that order: the link of one member, if it has come.
  std::optional<Connection> take_link(MemberId member);

 private:
  using Key = std::uint64_t;  // of a connection; the first are those of the listeners

  // A connection whose handshake is under way, or a control connection that waits for the data connections of its link.
  struct Pending {
    HandshakingSocket socket;
    pid_t pid;
    UniqueFd pidfd;
    TimePoint expires;
    bool waits = false;
  };
  // A link of which some connections have come.
  struct Assembly {
    std::uint64_t number = 0;  // HandshakeIdentity::link
    std::optional<Key> control;
    std::vector<UniqueFd> data;  // by index
    TimePoint expires;
  };

  Reception(const Identity& identity, const std::vector<UniqueFd>& listeners, const Terms& terms, const Clock& clock,
            const Log& log);

  Status watch(int operation, int fd, Key key) const;
  void set_listening(bool listening);
  void accept_waiting(std::size_t listener, TimePoint now);
  void admit(UniqueFd socket, TimePoint now);
  void serve(Key key, TimePoint now);
  Status conclude(Key key, Pending& pending, TimePoint now);
  Result<Assembly*> assembly_of(const Pending& pending, TimePoint now);
  EstablishedSocket take(Key key);
  void complete(MemberId member, Assembly& assembly);
  [[nodiscard]] bool has_arrived(MemberId member) const;
  void drop(Key key);
  void drop_assembly(std::map<MemberId, Assembly>::iterator assembly);
  void drop_expired(TimePoint now);

  const Identity& identity_;
  const std::vector<UniqueFd>& listeners_;
  const Terms terms_;
  const Clock& clock_;
  const Log& log_;
  Linked linked_;
  UniqueFd epoll_;
  Key next_key_;
  bool listening_ = false;
  TimePoint listen_again_ = TimePoint::max();  // after the system ran out of descriptors
  std::map<Key, Pending> pending_;
  std::map<MemberId, Assembly> assemblies_;
  std::deque<Arrival> arrivals_;
};

}  // namespace hora::control
