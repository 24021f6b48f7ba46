#include "transports/mpi/backoff.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>

namespace hora::mpi {

void nap(const std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration timeout) noexcept {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timespec longest{static_cast<time_t>(seconds.count()), static_cast<long>((timeout - seconds).count())};
  ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &longest, nullptr, 0);
}

bool Backoff::wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen) noexcept {
  const auto now = Clock::now();
  if (now >= end_) return false;
  if (now - begin_ < kYielding) {
    ::sched_yield();
    return true;
  }
  nap(word, seen, std::min<Duration>(nap_, end_ - now));
  nap_ = std::min(2 * nap_, kLongestNap);
  return true;
}

}  // namespace hora::mpi
