// Builds the links of a founding view: dials, accepts, shakes hands, and keeps strangers out.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/handshaking_socket.h"
#include "base/log.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"

namespace hora::control {

struct Identity {
  MemberId id;
  std::string job;
  std::string secret;
};

// What a member has of a peer once they are connected.
struct PeerLink {
  MemberId id;
  pid_t pid = 0;     // 0: in another process namespace
  UniqueFd pidfd;    // readable when the process has ended; empty where pid is 0
  UniqueFd segment;  // the shared memory segment that the peer passed; empty if it passed none
};

struct Connection {
  PeerLink link;
  UniqueFd socket;
  FrameReader reader;  // may hold the peer's first messages already
};

class Connector {
 public:
  // All arguments outlive the connector. `own_segment` is passed to every peer; -1 passes none.
  Connector(const Identity& identity, const UniqueFd& listener, const View& view, Rank self, int own_segment,
            const Clock& clock, const Log& log);

  // The connections in rank order, without `self`. See Mesh::connect_all().
  Result<std::vector<Connection>> run(TimePoint deadline);

 private:
  // A connection whose handshake is under way.
  struct Pending {
    HandshakingSocket socket;
    std::optional<std::size_t> dialed;  // the rank we dialed; nullopt: accepted
    PeerLink link;
    TimePoint expires;
  };

  Status dial_lower_ranks(TimePoint now);
  Status accept_waiting(TimePoint now);
  void start(UniqueFd socket, std::optional<std::size_t> dialed, TimePoint expires);
  void poll_until(TimePoint until);
  Status advance_ready(TimePoint now);
  Status conclude(Pending& pending);
  Result<std::size_t> admit(const Pending& pending) const;
  void drop_expired(TimePoint now);
  [[nodiscard]] TimePoint next_timer() const;
  [[nodiscard]] std::string missing() const;

  const Identity& identity_;
  const UniqueFd& listener_;
  const View& view_;
  std::size_t self_;
  int own_segment_;
  const Clock& clock_;
  const Log& log_;
  TimePoint deadline_;
  std::vector<std::optional<Connection>> connections_;  // by rank
  std::vector<TimePoint> dial_at_;                      // by rank; max() while a dialed connection is under way
  std::vector<Pending> pending_;
  std::vector<bool> ready_;  // by index in pending_
  bool someone_waits_ = true;
};

}  // namespace hora::control
