// How the two ends of a control connection get to know each other: protocol version, job, who they are, and a mutual
// HMAC-SHA256 challenge. Messages in, messages out: whoever owns the socket moves them.
//
//   dialer                                listener
//   hello(identity, nonce)  ----------->
//                           <-----------  hello(identity, nonce)
//   proof(HMAC)             ----------->
//                           <-----------  proof(HMAC)      a file descriptor may come along
//   accept                  ----------->                   a file descriptor may come along
//                           <-----------  welcome          once the listener has taken the connection into use
//
// Either side may say refuse(reason) instead. A proof covers both hellos and the sender's role, so it can be neither
// replayed nor reflected; nothing of value is sent before the other's proof was checked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/sha256.h"
#include "base/wire.h"
#include "hora/status.hpp"
#include "hora/types.hpp"

namespace hora {

inline constexpr std::uint16_t kProtocolVersion = 2;
// No message of a handshake is longer.
inline constexpr std::size_t kHandshakeFrameBytesMax = 4096;

struct HandshakeIdentity {
  // What the connection is for: "store", "control", "data" or "state". A dialer of the wrong socket is told so. A
  // listener for "control" takes "data" and "state" too, and takes the purpose, link and index over from its dialer.
  std::string purpose;
  std::string job;
  MemberId member;
  std::uint64_t link = 0;   // control and data: the connections of one attempt to link carry the same number
  std::uint32_t index = 0;  // data: which of the connections between the two
  std::uint16_t version = kProtocolVersion;
  MemberId expected = MemberId();  // not sent: whom a dialer means; nobody in particular: 0
};

class Handshake {
 public:
  enum class Role : std::uint8_t { dialer, listener };
  // What came of a message: what to send back (empty: nothing) and whether this side is through.
  struct Reply {
    wire::Bytes frame;
    bool may_carry_fd = false;  // the peer is proven: `frame` may carry a file descriptor
    bool done = false;          // a listener then owes welcome() or refusal()
  };
  using Nonce = std::array<std::byte, 16>;

  Handshake(Role role, HandshakeIdentity self, std::string secret, const Nonce& nonce);

  // The dialer's first message; a listener starts by listening.
  [[nodiscard]] wire::Bytes hello() const { return my_hello_; }
  // An error refuses the peer, with the reason to log; refusal() is then what to send before closing.
  Result<Reply> on_frame(std::span<const std::byte> frame);
  static wire::Bytes refusal(const Status& reason);
  static wire::Bytes welcome();

  // Who the peer claims to be; proven once the handshake is done.
  [[nodiscard]] const HandshakeIdentity& peer() const noexcept { return peer_; }

 private:
  enum class Expect : std::uint8_t { hello, proof, accept, welcome, nothing };

  Status on_hello(std::span<const std::byte> frame);
  [[nodiscard]] Status meet() const;
  Status on_proof(wire::Reader& reader) const;
  [[nodiscard]] Digest proof_of(Role role) const;
  [[nodiscard]] wire::Bytes proof_frame() const;

  Role role_;
  HandshakeIdentity self_;
  std::string secret_;
  Nonce nonce_;
  wire::Bytes my_hello_;
  wire::Bytes peer_hello_;
  HandshakeIdentity peer_;
  Expect expect_ = Expect::hello;
};

}  // namespace hora
