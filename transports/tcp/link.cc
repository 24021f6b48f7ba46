#include "transports/tcp/link.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/socket_address.h"
#include "transports/tcp/ring_stream.h"
#include "transports/tcp/socket_stream.h"

namespace hora::tcp {
namespace {

// While nothing passes the kernel asks whether the other end is there: a host that vanished is known within a minute.
void keep_alive(const UniqueFd& socket) {
  const int on = 1, idle_s = 20, interval_s = 5, probes = 6;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

std::string describe(int error) {
  return error == 0 ? "the other end closed it" : std::strerror(error);
}

}  // namespace

Result<std::unique_ptr<Link>> Link::create(std::vector<UniqueFd> sockets) {
  if (sockets.empty() || sockets.size() % kChannelCount != 0)
    return Status(StatusCode::invalid_argument,
                  fmt::format("{} sockets cannot be shared by two channels", sockets.size()));
  std::array<Streams, kChannelCount> streams;
  const std::size_t each = sockets.size() / kChannelCount;
  const bool shares_memory = is_local(sockets[0]);
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    Streams& of_channel = streams[i / each];
    if (!shares_memory) {
      keep_alive(sockets[i]);
      of_channel.push_back(std::make_unique<SocketStream>(std::move(sockets[i])));
    } else if (of_channel.empty()) {  // one ring is as fast as several
      auto ring = RingStream::create(std::move(sockets[i]));
      if (!ring.ok()) return ring.status();
      of_channel.push_back(std::move(ring).value());
    }
  }
  return std::unique_ptr<Link>(new Link(std::move(streams[0]), std::move(streams[1])));
}

Link::Link(Streams ordered, Streams negotiated)
    : conduits_{Conduit(std::move(ordered), Channel::ordered), Conduit(std::move(negotiated), Channel::negotiated)} {}

void Link::enter(Epoch epoch) {
  entered = true;
  for (Conduit& conduit : conduits_) {
    conduit.outgoing.enter(epoch);
    conduit.incoming.enter(epoch);
  }
}

bool Link::send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves) noexcept {
  return conduits_[conduit_of(tag)].outgoing.send(tag, data, moves);
}

Result<bool> Link::receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves) {
  return conduits_[conduit_of(tag)].incoming.receive(tag, data, moves);
}

std::optional<std::string> Link::fault() const {
  if (malformed()) return "what came makes no sense";
  for (const Conduit& conduit : conduits_) {
    if (conduit.incoming.closed()) return describe(conduit.incoming.error());
    if (conduit.outgoing.closed()) return describe(conduit.outgoing.error());
  }
  return std::nullopt;
}

bool Link::malformed() const noexcept {
  return std::ranges::any_of(conduits_, [](const Conduit& conduit) { return conduit.incoming.malformed(); });
}

}  // namespace hora::tcp
