#include "transports/shm/liveness.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/futex.h"
#include "base/thread.h"

namespace hora::shm {
namespace {

// The first word of a glibc mutex is its futex: thread id, waiters bit, owner-died bit.
const std::atomic<std::uint32_t>& liveness_word(const Segment& segment) noexcept {
  return reinterpret_cast<const std::atomic<std::uint32_t>&>(segment.lines().liveness);
}

bool has_ended(const Segment& segment, std::uint32_t word) noexcept {
  return (word & FUTEX_OWNER_DIED) != 0 || segment.lines().left.value.load(std::memory_order_acquire) != 0;
}

}  // namespace

LivenessWatcher::LivenessWatcher(Segment& own, LivenessHandler& handler)
    : own_(own), handler_(handler), pid_(getpid()) {}

Result<std::unique_ptr<LivenessWatcher>> LivenessWatcher::start(Segment& own, LivenessHandler& handler) {
  if (own.lines().left.value.load(std::memory_order_relaxed) != 0 || liveness_word(own).load() != 0) {
    return Status(StatusCode::invalid_argument,
                  fmt::format("the liveness word of member {:x} was already used", own.member().value));
  }
  std::unique_ptr<LivenessWatcher> watcher(new LivenessWatcher(own, handler));
  LivenessWatcher* const self = watcher.get();
  watcher->thread_ = start_thread("hora-watcher", [self] { self->run(); });
  watcher->state_.wait(0);
  if (watcher->state_.load() < 0) {
    return Status(StatusCode::internal,
                  fmt::format("the liveness word of member {:x} could not be locked", own.member().value));
  }
  return watcher;
}

LivenessWatcher::~LivenessWatcher() {
  if (!thread_.joinable()) return;
  if (pid_ != getpid()) {  // a forked child has no such thread
    thread_.detach();
    return;
  }
  stop_.store(true);
  changed_.fetch_add(1);
  futex_wake_all(changed_, FutexScope::process);
  thread_.join();
}

void LivenessWatcher::set_peers(std::vector<std::shared_ptr<const Segment>> peers) {
  {
    const MutexLock lock(mutex_);
    peers_.swap(peers);
  }
  changed_.fetch_add(1);
  futex_wake_all(changed_, FutexScope::process);
}

bool LivenessWatcher::hold_own_word() {
  if (pthread_mutex_trylock(&own_.lines().liveness) != 0) return false;
  // Peers only read the word, so they cannot announce themselves as waiters: the kernel wakes one of them when it marks
  // the word, and that one wakes the rest.
  auto& word = reinterpret_cast<std::atomic<std::uint32_t>&>(own_.lines().liveness);
  word.fetch_or(FUTEX_WAITERS);
  return true;
}

void LivenessWatcher::run() {
  // The exit of this thread is what peers wait for: it should not queue behind spinning ranks. Refused without the
  // right.
  sched_param priority{};
  priority.sched_priority = sched_get_priority_min(SCHED_FIFO);
  (void)pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority);

  const bool holds = hold_own_word();
  state_.store(holds ? 1 : -1);
  state_.notify_all();
  if (!holds) return;
  watch();
  leave();
}

void LivenessWatcher::watch() {
  std::vector<std::shared_ptr<const Segment>> watched;
  std::vector<const Segment*> ended;  // among `watched`
  std::uint32_t adopted = changed_.load() - 1;
  bool self_marked = false;
  while (true) {
    const std::uint32_t changed = changed_.load();
    if (stop_.load()) return;  // after `changed_`, which counts it: a stop that is missed here ends the wait below
    if (changed != adopted) {
      adopted = changed;
      const MutexLock lock(mutex_);
      watched = peers_;
      std::erase_if(ended, [&](const Segment* segment) {
        return std::none_of(watched.begin(), watched.end(), [&](const auto& peer) { return peer.get() == segment; });
      });
    }
    FutexWaitList list;
    list.add(changed_, adopted, FutexScope::process);
    const std::uint32_t own_word = liveness_word(own_).load();
    if ((own_word & FUTEX_OWNER_DIED) == 0) {
      list.add(liveness_word(own_), own_word, FutexScope::shared);
    } else if (!std::exchange(self_marked, true)) {
      handler_.on_self_marked();
    }
    bool complete = true;
    for (const auto& peer : watched) {
      if (std::find(ended.begin(), ended.end(), peer.get()) != ended.end()) continue;
      const std::uint32_t word = liveness_word(*peer).load();
      if (!has_ended(*peer, word)) {
        complete = list.add(liveness_word(*peer), word, FutexScope::shared) && complete;
        continue;
      }
      ended.push_back(peer.get());
      futex_wake_all(liveness_word(*peer), FutexScope::shared);
      handler_.on_peer_ended(peer->member());
    }
    // More peers than one call can wait for: the rest are looked at every now and then.
    list.wait(complete ? std::chrono::hours(1) : kFallbackNap);
  }
}

void LivenessWatcher::leave() {
  own_.lines().left.value.store(1, std::memory_order_release);
  pthread_mutex_unlock(&own_.lines().liveness);
  futex_wake_all(liveness_word(own_), FutexScope::shared);
}

}  // namespace hora::shm
