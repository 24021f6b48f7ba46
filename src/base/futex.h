// How threads sleep until a word changes: in this process or in another one, on one word or on several at once, also on
// words that this process may not write.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/time.h"

namespace hora {

// process: the word is private memory, and its wakers use FUTEX_PRIVATE_FLAG.
enum class FutexScope : std::uint8_t { process, shared };

// How long to nap where the kernel cannot wait for all words at once.
inline constexpr Duration kFallbackNap = std::chrono::milliseconds(1);

void futex_wake_all(const std::atomic<std::uint32_t>& word, FutexScope scope = FutexScope::process) noexcept;

// Sleeps while `word`, of scope process, reads `seen`, at most `timeout`. May return early for no reason.
void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration timeout) noexcept;

// Words to wait for at the same time.
class FutexWaitList {
 public:
  static constexpr std::size_t kMost = 128;  // the kernel's limit

  // False when the list is full; the word is then not waited for.
  bool add(const std::atomic<std::uint32_t>& word, std::uint32_t seen, FutexScope scope) noexcept;
  // Returns when a word is woken or differs from what was seen, or after `timeout`, or now and then for no reason.
  // Without futex_waitv (before Linux 5.16, or where a container's filter refuses it) it waits for the first word only,
  // kFallbackNap at most.
  void wait(Duration timeout) noexcept;

 private:
  struct Waiter {
    std::uint64_t value;
    std::uint64_t address;
    std::uint32_t flags;
    std::uint32_t reserved;
  };
  std::array<Waiter, kMost> waiters_;
  std::size_t count_ = 0;
};

}  // namespace hora
