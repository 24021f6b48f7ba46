// Waking and sleeping between members that share memory, at the price of one shared load per peer and publication.
//
// The sleeper pays: it announces itself, then interrupts every processor that runs a member (membarrier), so a
// publisher needs no fence between its release store and its look at the sleepers. Where a member has no membarrier,
// all publishers fence.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/time.h"
#include "transports/shm/segment.h"

namespace hora::shm {

// Not thread safe.
class Doorbell {
 public:
  // `members` contains `own` (or its equal); all must outlive the doorbell.
  Doorbell(Segment& own, std::span<const Segment* const> members);
  // For the members of another view.
  void rebind(Segment& own, std::span<const Segment* const> members);

  // After a release store to the own segment.
  void published() noexcept {
    if (fenced_) fence_.fetch_add(1, std::memory_order_seq_cst);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    for (const std::atomic<std::uint32_t>* sleeping : sleeping_)
      if (sleeping->load(std::memory_order_relaxed) != 0) [[unlikely]]
        return ring();
  }

  // As GroupTransport. `wake_word` is woken with FUTEX_WAKE_PRIVATE.
  void begin_sleep();
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout);
  void end_sleep();

 private:
  void ring() noexcept;

  Lines* own_;
  std::vector<const std::atomic<std::uint32_t>*> sleeping_;  // of the peers
  std::vector<const std::atomic<std::uint32_t>*> bells_;     // of the peers
  std::vector<std::uint32_t> heard_;                         // values of bells_ when sleep was announced
  std::atomic<std::uint64_t> fence_{0};
  bool fenced_ = false;
};

}  // namespace hora::shm
