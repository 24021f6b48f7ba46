// The dialing side of the mesh: all connections of one link, or one stream, to one member. An attempt succeeds as a
// whole or is repeated as a whole. Never blocks but in run().
#pragma once

#include <poll.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/handshaking_socket.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "transports/control/peer_link.h"

namespace hora::control {

class Dialing {
 public:
  // The control connection and the data connections. `identity` outlives the dialing. `own_segment` is borrowed as long
  // as it lasts; -1 passes none.
  static Result<Dialing> of_link(const Identity& identity, const Member& peer, bool same_host, int own_segment,
                                 const AgreedConfig& config);
  static Result<Dialing> of_stream(const Identity& identity, const Member& peer, bool same_host);

  // Does what can be done without waiting; StatusCode::try_again: call it again once one of add_polled() is ready, or
  // at next_timer(). peer_failed: nobody, or another member, listens there. Any other error: the peer refuses us.
  Status advance(TimePoint now);
  void add_polled(std::vector<pollfd>& polled) const;
  [[nodiscard]] TimePoint next_timer() const;
  // Until all is connected; timed_out at `deadline`, shut_down once `cancel` is readable.
  Status run(const Clock& clock, TimePoint deadline, const UniqueFd& cancel);

  // Precondition: advance() or run() returned ok.
  Connection take_link();
  UniqueFd take_stream();

 private:
  struct Piece {
    std::string purpose;
    std::uint32_t index = 0;
    std::string address;
    int passed_segment = -1;
    std::optional<HandshakingSocket> socket;  // empty: to be dialed
    TimePoint dial_at;
    bool done = false;
  };

  Dialing(const Identity& identity, const Member& peer) : identity_(&identity), peer_(peer) {}

  Status add(std::string purpose, std::uint32_t index, bool local, int passed_segment);
  Status dial(Piece& piece, TimePoint now);
  [[nodiscard]] Status explain(const Piece& piece, const Status& status) const;
  void start_again(TimePoint at);

  const Identity* identity_;
  Member peer_;
  std::uint64_t number_ = 0;  // of the attempt; 0: none is under way
  pid_t pid_ = 0;
  UniqueFd pidfd_;
  std::vector<Piece> pieces_;
};

}  // namespace hora::control
