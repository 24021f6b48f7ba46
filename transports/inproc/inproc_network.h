// The reference PairTransport: ranks are threads of one process, links are bounded queues.
//
// Used by tests of everything that is written over PairTransport. A rank can be dropped, as if its process had died.
#pragma once

#include <atomic>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "hora/view.hpp"
#include "interfaces/pair_transport.h"

namespace hora::inproc {

// What becomes of the messages that a dropped rank has sent and nobody has received.
enum class InFlight : std::uint8_t { kept, lost };

// Connects any number of members. Thread safe. Outlives its InprocPairs.
class InprocNetwork {
 public:
  // A link holds `capacity` messages of each channel and is then full.
  explicit InprocNetwork(std::size_t capacity) : capacity_(capacity) {}

  // From now on nothing comes from `member`, and what is sent to it vanishes.
  void drop(MemberId member, InFlight in_flight);

 private:
  friend class InprocPair;

  struct Message {
    Tag tag;
    std::vector<std::byte> data;
  };
  struct Link {
    MemberId from, to;
    std::uint8_t channel;
    friend auto operator<=>(const Link&, const Link&) = default;
  };
  // Rung when a message or room has come for its owner. The order between ring and sleep is that of seq_cst: either the
  // ringer sees `asleep`, or the sleeper sees the ring before it sleeps.
  struct Bell {
    std::atomic<std::uint32_t> rings{0};
    std::atomic<bool> asleep{false};
    void ring();
  };

  Bell& attach(MemberId member);
  void purge(MemberId to, Epoch current);
  bool send(const Link& link, const Tag& tag, std::span<const std::byte> data);
  Result<bool> receive(const Link& link, const Tag& tag, std::span<std::byte> data);
  void ring(MemberId member) REQUIRES(mutex_);

  const std::size_t capacity_;
  Mutex mutex_;
  std::map<Link, std::deque<Message>> queues_ GUARDED_BY(mutex_);
  std::map<MemberId, std::unique_ptr<Bell>> bells_ GUARDED_BY(mutex_);
  std::set<MemberId> dropped_ GUARDED_BY(mutex_);
};

// One member's end of all its links. Not thread safe; each member has its own.
class InprocPair final : public PairTransport {
 public:
  InprocPair(InprocNetwork& network, MemberId self);

  void enter(const View& view) override;
  bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) override;
  Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) override;
  void begin_sleep() override;
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override;
  void end_sleep() override;

 private:
  [[nodiscard]] MemberId member(Rank rank) const { return view_.members[static_cast<std::size_t>(rank.value)].id; }

  InprocNetwork& network_;
  const MemberId self_;
  InprocNetwork::Bell& bell_;
  std::uint32_t rings_seen_ = 0;  // at begin_sleep()
  View view_;
};

}  // namespace hora::inproc
