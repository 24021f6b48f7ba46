#include "transports/shm/doorbell.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/futex.h"

namespace hora::shm {
namespace {

// Orders the calling thread against every running thread of every registered process. False when the kernel refuses.
bool membarrier_all() noexcept {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0;
}

}  // namespace

Doorbell::Doorbell(Segment& own, std::span<const Segment* const> members) : own_(&own.lines()) {
  for (const Segment* member : members) {
    fenced_ = fenced_ || member->lines().header.has_membarrier == 0;
    if (member->member() == own.member()) continue;
    sleeping_.push_back(&member->lines().sleeping.value);
    bells_.push_back(&member->lines().doorbell.value);
  }
  heard_.resize(bells_.size());
}

void Doorbell::rebind(Segment& own, std::span<const Segment* const> members) {
  Doorbell fresh(own, members);
  sleeping_ = std::move(fresh.sleeping_);
  bells_ = std::move(fresh.bells_);
  heard_ = std::move(fresh.heard_);
  fenced_ = fresh.fenced_;
  own_ = fresh.own_;
}

void Doorbell::ring() noexcept {
  own_->doorbell.value.fetch_add(1, std::memory_order_release);
  futex_wake_all(own_->doorbell.value, FutexScope::shared);
}

void Doorbell::begin_sleep() {
  own_->sleeping.value.store(1, std::memory_order_seq_cst);
  // From here on every publication either is visible to this thread or sees `sleeping`.
  if (fenced_ || !membarrier_all()) fence_.fetch_add(1, std::memory_order_seq_cst);
  for (std::size_t i = 0; i < bells_.size(); ++i) heard_[i] = bells_[i]->load(std::memory_order_acquire);
}

void Doorbell::sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) {
  if (timeout <= Duration::zero()) return;
  FutexWaitList list;
  list.add(wake_word, seen, FutexScope::process);
  bool complete = true;
  for (std::size_t i = 0; i < bells_.size() && complete; ++i)
    complete = list.add(*bells_[i], heard_[i], FutexScope::shared);
  // Too many peers for one call: look again after a moment.
  list.wait(complete ? timeout : std::min<Duration>(timeout, kFallbackNap));
}

void Doorbell::end_sleep() {
  own_->sleeping.value.store(0, std::memory_order_relaxed);
}

}  // namespace hora::shm
