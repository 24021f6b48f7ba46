// One connection that is still in its handshake: drives a Handshake over a non-blocking socket, step by step.
#pragma once

#include <string>

#include "base/frame_socket.h"
#include "base/handshake.h"
#include "base/unique_fd.h"
#include "hora/status.hpp"

namespace hora {

// What a finished handshake leaves: the socket, of which nothing that follows the handshake has been read, the peer and
// what it passed.
struct EstablishedSocket {
  UniqueFd socket;
  FrameReader reader;
  HandshakeIdentity peer;
  UniqueFd passed_fd;
};

class HandshakingSocket {
 public:
  // `passed_fd` goes along with a "control" connection, and is borrowed until the handshake is over; -1 passes none.
  HandshakingSocket(UniqueFd socket, Handshake::Role role, HandshakeIdentity self, std::string secret,
                    int passed_fd = -1);

  // Does what can be done without waiting; call it when the socket has what poll_events() asks for.
  // StatusCode::try_again: more must come. Anything else but ok: the peer is refused (and was told) or is gone.
  Status advance();
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  // POLLOUT for a dialer that is not known to be connected, then POLLIN.
  [[nodiscard]] short poll_events() const noexcept;
  // Who the other end claims to be.
  [[nodiscard]] const HandshakeIdentity& peer() const noexcept { return handshake_.peer(); }
  // For a dialer whose advance() returned peer_failed: nobody listens there, and nobody will.
  [[nodiscard]] bool nobody_listens() const noexcept { return nobody_listens_; }
  // Tells the other end why it is not wanted.
  void refuse(const Status& reason);
  // Precondition: advance() returned ok. Of a listener it welcomes the other end, which waits for it.
  EstablishedSocket take();

 private:
  Status answer(std::span<const std::byte> frame);

  UniqueFd socket_;
  Handshake::Role role_;
  Handshake handshake_;
  int passed_fd_;
  FrameWriter writer_{kHandshakeFrameBytesMax};
  FrameReader reader_{kHandshakeFrameBytesMax};
  bool started_ = false;
  bool done_ = false;
  bool nobody_listens_ = false;
};

}  // namespace hora
