#include "transports/tcp/link.h"

#include <algorithm>
#include <utility>

namespace hora::tcp {

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

bool Link::malformed() const noexcept {
  return std::ranges::any_of(conduits_, [](const Conduit& conduit) { return conduit.incoming.malformed(); });
}

}  // namespace hora::tcp
