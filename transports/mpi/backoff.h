// How to wait for MPI, which has nothing that a thread could sleep on, neither descriptor nor futex: look again and
// again, giving the processor away in between, and after a while only now and then. The longest nap bounds what a
// message that comes late loses, and what a process that waits for long costs.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/time.h"

namespace hora::mpi {

class Backoff {
 public:
  explicit Backoff(Duration timeout) noexcept : begin_(Clock::now()), end_(begin_ + timeout) {}

  // Waits a little; false once the time is up.
  bool wait() noexcept {
    const std::atomic<std::uint32_t> nobody{0};
    return wait(nobody, 0);
  }
  // The same; a change of `word` (by FUTEX_WAKE_PRIVATE) cuts a nap short.
  bool wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen) noexcept;

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr Duration kYielding = std::chrono::microseconds(200);
  static constexpr Duration kFirstNap = std::chrono::microseconds(20);
  static constexpr Duration kLongestNap = std::chrono::milliseconds(1);

  Clock::time_point begin_;
  Clock::time_point end_;
  Duration nap_ = kFirstNap;
};

// Sleeps until `word` changes from `seen`, at most `timeout`.
void nap(const std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration timeout) noexcept;

}  // namespace hora::mpi
