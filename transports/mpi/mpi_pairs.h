// The links between the founders of a job as messages of MPI, for as long as all of them live.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/log.h"
#include "interfaces/operation.h"
#include "interfaces/pair_transport.h"
#include "transports/mpi/lane.h"

namespace hora::mpi {

// Rank r of the view is rank r of MPI_COMM_WORLD. There is one view: MPI does not outlive a death, and newcomers are
// not in it.
//
// A call of MPI that fails makes its link silent; whether the peer has died is for membership to find out. The
// destructor calls nothing: without close(), what MPI may still read or write stays for the rest of the process.
//
// Used by the holder of the engine's token. A thread that may not call MPI (Library) moves nothing.
class MpiPairs final : public PairTransport {
 public:
  // Both outlive it.
  MpiPairs(Library& library, const Log& log) : library_(library), log_(log) {}
  ~MpiPairs() override;

  void enter(const View& view) override;
  bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) override;
  Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) override;
  void begin_sleep() override;
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override;
  void end_sleep() override { listening_ = false; }

  // Every rank of the view calls it, once it needs no messages any more; true when all have, within `timeout`. Then
  // nothing is under way, which MPI_Finalize asks for.
  bool close(Duration timeout);

 private:
  // Those of the channels, and the one that members settle on.
  static constexpr std::size_t kLanes = kChannelCount + 1;
  struct Lane {
    Lane(Library& library, int peer, int lane) : outgoing(library, peer, lane), incoming(library, peer, lane) {}
    Outgoing outgoing;
    Incoming incoming;
  };

  [[nodiscard]] Lane& lane(Rank peer, const Tag& tag) const {
    return (*lanes_)[static_cast<std::size_t>(peer.value) * kLanes + tag.channel];
  }
  template <typename Visitor>
  bool all_of_peers(const Visitor& visit);
  void complain(Rank peer, const Status& status);

  Library& library_;
  const Log& log_;
  std::unique_ptr<std::vector<Lane>> lanes_;  // by rank, and there by channel
  std::vector<Rank> silent_;                  // those that were complained of
  bool listening_ = false;
  std::vector<Outgoing*> full_;   // asked since begin_sleep()
  std::vector<Incoming*> empty_;  // the same
  bool closed_ = false;
};

}  // namespace hora::mpi
