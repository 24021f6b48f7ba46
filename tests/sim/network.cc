#include "sim/network.h"

#include <algorithm>
#include <utility>

namespace hora::sim {

Network::Network(EventQueue& events, Random& random, int size, Duration latency_max, Handlers handlers)
    : events_(events),
      random_(random),
      size_(size),
      latency_max_(latency_max),
      handlers_(std::move(handlers)),
      links_(static_cast<std::size_t>(size) * static_cast<std::size_t>(size)) {}

void Network::send(int from, int to, wire::Bytes message) {
  if (!link(from, to).closed) push(from, to, {{}, false, std::move(message)});
}

void Network::push(int from, int to, Packet packet) {
  Link& way = link(from, to);
  const Duration latency(1 + random_.below(static_cast<std::uint64_t>(latency_max_.count())));
  packet.due = std::max(events_.now() + latency, way.last_due);
  way.last_due = packet.due;
  const TimePoint due = packet.due;
  way.packets.push_back(std::move(packet));
  events_.at(due, [this, from, to] { pump(from, to); });
}

void Network::pump(int from, int to) {
  Link& way = link(from, to);
  while (!way.cut && !way.packets.empty() && way.packets.front().due <= events_.now()) {
    const Packet packet = std::move(way.packets.front());
    way.packets.pop_front();
    if (packet.end)
      handlers_.link_down(to, from);
    else
      handlers_.message(to, from, packet.bytes);
  }
}

void Network::isolate(int node) {
  for (int peer = 0; peer < size_; ++peer)
    for (Link* way : {&link(node, peer), &link(peer, node)}) way->closed = way->unused = true;
}

void Network::connect(int a, int b) {
  for (Link* way : {&link(a, b), &link(b, a)})
    if (std::exchange(way->unused, false)) way->closed = false;
}

void Network::cut(int from, int to) {
  link(from, to).cut = true;
}

void Network::heal(int from, int to) {
  if (!std::exchange(link(from, to).cut, false)) return;
  events_.after(Duration(1), [this, from, to] { pump(from, to); });
}

void Network::close(int from, int to, bool noticed) {
  Link& way = link(from, to);
  if (std::exchange(way.closed, true)) return;
  const std::size_t kept = random_.below(way.packets.size() + 1);
  way.packets.resize(kept);
  if (noticed) push(from, to, {{}, true, {}});
}

void Network::reset(int a, int b) {
  close(a, b, random_.chance(3, 4));
  close(b, a, random_.chance(3, 4));
}

void Network::crash(int node, bool silently) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == node) continue;
    close(node, peer, !silently);
    close(peer, node, false);
  }
}

bool Network::connected(int a, int b) const {
  const auto open = [](const Link& way) { return !way.closed && !way.cut; };
  return open(link(a, b)) && open(link(b, a));
}

}  // namespace hora::sim
