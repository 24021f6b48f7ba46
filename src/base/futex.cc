#include "base/futex.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace hora {
namespace {

#ifndef SYS_futex_waitv
constexpr long kFutexWaitv = 449;
#else
constexpr long kFutexWaitv = SYS_futex_waitv;
#endif
constexpr std::uint32_t kFutex32 = 2;

timespec to_timespec(Duration duration) noexcept {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((duration - seconds).count())};
}

}  // namespace

void futex_wake_all(const std::atomic<std::uint32_t>& word, FutexScope scope) noexcept {
  const int operation = FUTEX_WAKE | (scope == FutexScope::process ? FUTEX_PRIVATE_FLAG : 0);
  syscall(SYS_futex, &word, operation, INT_MAX, nullptr, nullptr, 0);
}

void futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t seen, Duration timeout) noexcept {
  const timespec limit = to_timespec(std::max(timeout, Duration::zero()));
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, &limit, nullptr, 0);
}

bool FutexWaitList::add(const std::atomic<std::uint32_t>& word, std::uint32_t seen, FutexScope scope) noexcept {
  if (count_ == kMost) return false;
  const std::uint32_t flags = kFutex32 | (scope == FutexScope::process ? FUTEX_PRIVATE_FLAG : 0);
  waiters_[count_++] = {seen, reinterpret_cast<std::uint64_t>(&word), flags, 0};
  return true;
}

void FutexWaitList::wait(Duration timeout) noexcept {
  if (count_ == 0 || timeout <= Duration::zero()) return;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  // A year is as good as for ever, and does not overflow.
  const Duration bounded = std::min<Duration>(timeout, std::chrono::hours(24 * 365));
  const Duration until = std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec) + bounded;
  const timespec deadline = to_timespec(until);
  if (syscall(kFutexWaitv, waiters_.data(), count_, 0, &deadline, CLOCK_MONOTONIC) >= 0) return;
  // All else says that there is no such call: ENOSYS from the kernel, EPERM from the filters of older containers.
  if (errno == EINTR || errno == EAGAIN || errno == ETIMEDOUT) return;
  const timespec nap = to_timespec(std::min(timeout, kFallbackNap));
  const int operation = FUTEX_WAIT | ((waiters_[0].flags & FUTEX_PRIVATE_FLAG) != 0 ? FUTEX_PRIVATE_FLAG : 0);
  syscall(SYS_futex, waiters_[0].address, operation, static_cast<std::uint32_t>(waiters_[0].value), &nap, nullptr, 0);
}

}  // namespace hora
