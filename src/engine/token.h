// The engine's token: whoever holds it drives the data plane and the negotiation of this process.
//
// Protocol law 3 asks that one compare-and-swap takes a unit from PENDING to DONE or to FROZEN. This is that
// compare-and-swap: a thread that finishes operations holds the token, a promise is given only by a holder too. So what
// a promise reports cannot change behind it, and the hot path pays for one uncontended exchange each way.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

#include "base/futex.h"
#include "base/time.h"
#include "interfaces/clock.h"

namespace hora::engine {

class Token {
 public:
  [[nodiscard]] bool try_acquire() noexcept {
    std::uint32_t free = kFree;
    // acquire: what the last holder did is visible to this one.
    return word_.load(std::memory_order_relaxed) == kFree &&
           word_.compare_exchange_strong(free, kHeld, std::memory_order_acquire, std::memory_order_relaxed);
  }

  // Sleeps until the token is free. Holders that are asked to (Engine::freeze) let go after one step, so this is
  // short.
  void acquire() noexcept {
    while (word_.exchange(kWanted, std::memory_order_acquire) != kFree) futex_wait(word_, kWanted, kNap);
  }
  // False where `deadline` passed first.
  [[nodiscard]] bool acquire_until(const Clock& clock, std::optional<TimePoint> deadline) noexcept {
    while (word_.exchange(kWanted, std::memory_order_acquire) != kFree) {
      const TimePoint now = clock.now();
      if (deadline && now >= *deadline) return false;
      futex_wait(word_, kWanted, deadline ? std::min(kNap, *deadline - now) : kNap);
    }
    return true;
  }

  [[nodiscard]] bool is_free() const noexcept { return word_.load(std::memory_order_seq_cst) == kFree; }

  void release() noexcept {
    // seq_cst: what is checked after letting go (who waits, what is pending) is read after it.
    if (word_.exchange(kFree, std::memory_order_seq_cst) == kWanted) futex_wake_all(word_);
  }

 private:
  static constexpr Duration kNap = std::chrono::milliseconds(100);
  static constexpr std::uint32_t kFree = 0, kHeld = 1, kWanted = 2;
  std::atomic<std::uint32_t> word_{kFree};
};

}  // namespace hora::engine
