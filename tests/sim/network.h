// The network as TCP gives it: messages in order on each link; a reset loses the end of what is under way, on each side
// for itself, and is noticed by each side for itself or never; a link that is down stays down; a cut holds bytes back.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "base/random.h"
#include "base/wire.h"
#include "sim/event_queue.h"

namespace hora::sim {

// Whose message it is: the first byte of each.
enum class Traffic : std::uint8_t { membership, joining, negotiation };

class Network {
 public:
  struct Handlers {
    std::function<void(int to, int from, const wire::Bytes& message)> message;
    std::function<void(int node, int peer)> link_down;
  };

  Network(EventQueue& events, Random& random, int size, Duration latency_max, Handlers handlers);

  void send(int from, int to, wire::Bytes message);
  // A process that has not started has no links; connect() makes one, unless there was one before.
  void isolate(int node);
  void connect(int a, int b);
  // One way: what `from` sends is held back until heal().
  void cut(int from, int to);
  void heal(int from, int to);
  void reset(int a, int b);
  // The kernel of `node` closes its sockets; with `silently` it does not even do that (its host is gone).
  void crash(int node, bool silently);
  [[nodiscard]] bool connected(int a, int b) const;

 private:
  struct Packet {
    TimePoint due;
    bool end = false;  // the link is down
    wire::Bytes bytes;
  };
  struct Link {
    std::deque<Packet> packets;
    TimePoint last_due;
    bool cut = false;
    bool closed = false;
    bool unused = false;  // closed, since there never was one
  };

  Link& link(int from, int to) { return links_[static_cast<std::size_t>(from * size_ + to)]; }
  [[nodiscard]] const Link& link(int from, int to) const { return links_[static_cast<std::size_t>(from * size_ + to)]; }
  void push(int from, int to, Packet packet);
  void pump(int from, int to);
  void close(int from, int to, bool noticed);

  EventQueue& events_;
  Random& random_;
  int size_;
  Duration latency_max_;
  Handlers handlers_;
  std::vector<Link> links_;
};

}  // namespace hora::sim
