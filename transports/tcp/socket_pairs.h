// The links between members as sockets: TCP between hosts, and inside a host Unix sockets with shared memory beside
// them.
//
// A message that finds room and a waiting receiver costs one system call on each side, no allocation and no lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/pair_transport.h"
#include "transports/tcp/link.h"
#include "transports/tcp/sleeper.h"

namespace hora::tcp {

// Messages are cut into frames, and each frame is taken by whichever socket of its channel has room. A receive that has
// been asked for is filled in place; what nobody asked for yet stays in the socket and holds its sender up, but for a
// few small messages. See link.h why that never blocks for ever.
//
// A socket that fails makes its link silent: nothing more comes from that peer and nothing is taken for it. That is
// reported once; what becomes of the peer is for membership to decide.
//
// Used by the holder of the engine's token, add() and remove() too; wake() by any thread.
class SocketPairs final : public PairTransport {
 public:
  // Called by whoever sends or receives, with the peer and the cause.
  using FaultHandler = std::function<void(MemberId, const std::string&)>;

  // Fails for want of file descriptors.
  static Result<std::unique_ptr<SocketPairs>> create(FaultHandler on_fault);
  ~SocketPairs() override;

  // The link to `peer`, before a view with that peer is entered. Replaces a link to the same member.
  void add(MemberId peer, std::unique_ptr<Link> link);
  // Closes the link to a peer that will not enter after all. Links to members that left are closed by enter().
  void remove(MemberId peer);

  void enter(const View& view) override;
  bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) override;
  Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) override;
  void begin_sleep() override;
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override;
  void end_sleep() override;
  void wake() noexcept override { sleeper_.wake(); }

 private:
  SocketPairs(UniqueFd epoll, UniqueFd event, FaultHandler on_fault);
  void close(Link& link);
  void complain(Rank peer, const std::optional<std::string>& fault);
  Link* link_to(Rank rank) { return by_rank_[static_cast<std::size_t>(rank.value)]; }

  Sleeper sleeper_;
  const FaultHandler on_fault_;
  std::map<MemberId, std::unique_ptr<Link>> links_;
  std::vector<Link*> by_rank_;  // null: this member itself, or a link that is closed
};

}  // namespace hora::tcp
