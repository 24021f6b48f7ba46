// All that passes between this member and another one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "interfaces/operation.h"
#include "transports/tcp/incoming.h"
#include "transports/tcp/outgoing.h"

namespace hora::tcp {

// Each channel has streams of its own, so that one that waits cannot stand in the way of the other.
//
// Within a channel a frame that nobody has asked for stays at the head of its stream. It blocks what is behind it, and
// never for ever:
//  - A sender begins a message when the one before is in the streams whole. So in no stream does a frame of a message
//    stand before one of an earlier message.
//  - Both ends agree on the order: the messages of an operation are numbered, operations follow each other, and so do
//    epochs. What the receiver waits for first is therefore at the head of its stream, behind nothing but frames of
//    operations that are over, which are read and forgotten.
//  - A schedule in which nobody waits for a later message of a link before an earlier one (that is how they are made
//    and checked, see src/collectives) goes on even if links hold nothing; what the sockets hold is speed.
//  - What members tell each other on entering a view goes through the first stream of the ordered channel. It is the
//    first message of its epoch: before it stand only frames of older epochs.
class Link {
 public:
  // Over connected, authenticated, non-blocking stream sockets, through which nothing has passed but the handshake, and
  // which send at once (TCP_NODELAY). The first half are those of the ordered channel, the second half those of the
  // negotiated channel; the i-th here is connected with the i-th of the peer. Where they are Unix sockets the payload
  // goes through shared memory.
  static Result<std::unique_ptr<Link>> create(std::vector<UniqueFd> sockets);
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;

  void enter(Epoch epoch);
  bool send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves) noexcept;
  Result<bool> receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves);

  // A malformed frame came: the link is of no use.
  [[nodiscard]] bool malformed() const noexcept;
  // Why not all will pass any more; nothing while it will.
  [[nodiscard]] std::optional<std::string> fault() const;
  // Has been part of a view.
  bool entered = false;
  // Its fault was reported.
  bool complained_of = false;

  template <typename Visitor>
  void for_each_stream(const Visitor& visit) {
    for (Conduit& conduit : conduits_)
      for (const auto& stream : conduit.streams) visit(*stream);
  }

 private:
  Link(Streams ordered, Streams negotiated);

  struct Conduit {
    Conduit(Streams its_streams, Channel channel)
        : streams(std::move(its_streams)), outgoing(streams), incoming(streams, static_cast<std::uint8_t>(channel)) {}
    const Streams streams;
    Outgoing outgoing;
    Incoming incoming;
  };
  static std::size_t conduit_of(const Tag& tag) noexcept { return tag.channel < kChannelCount ? tag.channel : 0; }

  std::array<Conduit, kChannelCount> conduits_;
};

}  // namespace hora::tcp
