#include "transports/mpi/mpi_pairs.h"

#include <algorithm>
#include <cassert>

#include "transports/mpi/backoff.h"

namespace hora::mpi {

MpiPairs::~MpiPairs() {
  if (!closed_) (void)lanes_.release();
}

void MpiPairs::enter(const View& view) {
  assert(lanes_ == nullptr && view.size() <= library_.size());
  lanes_ = std::make_unique<std::vector<Lane>>();
  lanes_->reserve(view.members.size() * kLanes);
  for (int peer = 0; peer < view.size(); ++peer)
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes_->emplace_back(library_, peer, static_cast<int>(lane));
}

bool MpiPairs::try_send(Rank to, const Tag& tag, std::span<const std::byte> data) {
  if (!library_.may_call()) return false;
  Outgoing& outgoing = lane(to, tag).outgoing;
  const auto sent = outgoing.send(tag, data, moves_);
  if (!sent.ok()) complain(to, sent.status());
  if (sent.ok() && sent.value()) return true;
  if (listening_) full_.push_back(&outgoing);
  return false;
}

Result<bool> MpiPairs::try_receive(Rank from, const Tag& tag, std::span<std::byte> data) {
  if (!library_.may_call()) return false;
  Incoming& incoming = lane(from, tag).incoming;
  auto received = incoming.receive(tag, data, moves_);
  if (!received.ok()) complain(from, received.status());
  if (listening_ && incoming.is_empty()) empty_.push_back(&incoming);
  return received;
}

// Once for each peer.
void MpiPairs::complain(Rank peer, const Status& status) {
  if (std::ranges::find(silent_, peer) != silent_.end()) return;
  silent_.push_back(peer);
  log_(LogLevel::warn, "mpi", "the link to rank {} is silent: {}", peer.value, status.message());
}

void MpiPairs::begin_sleep() {
  listening_ = true;
  full_.clear();
  empty_.clear();
}

void MpiPairs::sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) {
  if (!library_.may_call()) return nap(wake_word, seen, timeout);
  const auto is_ready = [](auto* end) { return end->is_ready(); };
  Backoff backoff(timeout);
  // Acquire: what the change announces is to be seen by whoever sleeps.
  while (wake_word.load(std::memory_order_acquire) == seen && std::ranges::none_of(empty_, is_ready) &&
         std::ranges::none_of(full_, is_ready) && backoff.wait(wake_word, seen)) {
  }
}

template <typename Visitor>
bool MpiPairs::all_of_peers(const Visitor& visit) {
  bool all = true;
  for (std::size_t i = 0; i < lanes_->size(); ++i)
    if (i / kLanes != static_cast<std::size_t>(library_.rank())) all &= visit((*lanes_)[i]);
  return all;
}

bool MpiPairs::close(Duration timeout) {
  if (!library_.may_call()) return false;
  const auto end_lane = [](Lane& lane) {
    const bool sent = lane.outgoing.close();
    return lane.incoming.drain() && sent;
  };
  for (Backoff backoff(timeout); !all_of_peers(end_lane);)
    if (!backoff.wait()) return false;
  closed_ = all_of_peers([](Lane& lane) { return lane.incoming.cancel().ok(); });
  return closed_;
}

}  // namespace hora::mpi
