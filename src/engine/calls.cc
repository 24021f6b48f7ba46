// What a caller's thread does: submit, drive while it waits, and see the new view before it returns. Also the
// background thread, which drives what nobody waits for.
#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.h"
#include "engine/driving.h"
#include "engine/engine.h"

namespace hora::engine {

namespace {

// Whether a call means something else in another view.
bool counts_ranks(Collective kind) noexcept {
  return kind == Collective::broadcast || kind == Collective::allgather;
}

}  // namespace

Outcome Engine::run_ordered(const Signature& signature, const Extent& extent, const View& seen) {
  return run(signature, extent, seen, interrupted_wait_ ? std::optional(kInterruptionsEvery) : std::nullopt);
}

Outcome Engine::run_to_end(const Signature& signature, const Extent& extent) {
  return run(signature, extent, view(), std::nullopt);
}

// `patience`: how long to wait without asking whether the wait is interrupted.
Outcome Engine::run(const Signature& signature, const Extent& extent, const View& seen,
                    std::optional<Duration> patience) {
  throw_if_fenced();
  if (&seen != &view() && !views_.knows(seen))
    throw Error(
        Status(StatusCode::invalid_argument, fmt::format("{}: the view of epoch {} is none of this communicator",
                                                         to_string(signature.kind), seen.epoch.value)));
  if (ordered_left_.load(std::memory_order_relaxed)) [[unlikely]] {  // relaxed: this thread's own
    if (!await_ordered(patience))
      throw Error(
          Status(StatusCode::try_again,
                 "the wait for the call before, whose caller was interrupted, was interrupted too; this call has "
                 "done nothing"));
    const Epoch before = view().epoch;
    record_ordered();  // its caller is gone: a failure is told to nobody
    // Where the others called the same, they had seen the view that this one sees only now.
    if (view().epoch != before && seen.epoch == before && counts_ranks(signature.kind))
      throw Error(Status(StatusCode::try_again,
                         "the view changed while this call waited for the one before, whose caller was interrupted; it "
                         "has done nothing"));
  }
  ordered_work_.reset();
  ordered_work_.signature = signature;
  ordered_work_.extent = extent;
  ordered_work_.meaning = meaning_of(signature, seen);
  if (!take_token([this] { return fenced_.load(std::memory_order_acquire); }, std::nullopt, Purpose::begin))
    throw_if_fenced();
  begin_ordered();
  HORA_FAILPOINT("engine.ordered_begun");
  attended_ = &ordered_work_;
  drive([this] { return ordered_work_.done(); }, patience ? std::optional(clock_.now() + *patience) : std::nullopt);
  release_token();
  // A view change came in between, or it takes long.
  if (!ordered_work_.done() && !await_ordered(patience))
    throw Error(Status(StatusCode::timed_out, "the wait was interrupted; the operation goes on without its caller"));
  record_ordered();
  if (!ordered_work_.status.ok()) throw Error(ordered_work_.status);
  return ordered_work_.outcome;
}

// False where the wait was interrupted: the operation goes on.
bool Engine::await_ordered(std::optional<Duration> patience) {
  while (!drive_until([this] { return ordered_work_.done(); }, &ordered_work_, patience)) {
    try {
      if (!interrupted_wait_()) continue;
    } catch (...) {  // the caller's own: it leaves as well
      leave_ordered();
      throw;
    }
    leave_ordered();
    return false;
  }
  ordered_left_.store(false, std::memory_order_seq_cst);
  return true;
}

void Engine::leave_ordered() noexcept {
  ordered_left_.store(true, std::memory_order_seq_cst);  // seq_cst: see unattended_work()
  wake_background();
}

// What an ordered operation that has ended changes for the calls after it.
void Engine::record_ordered() {
  if (Recorder* recorder = recorder_.load(std::memory_order_relaxed); recorder != nullptr) [[unlikely]]
    recorder->ordered(ordered_work_.status, ordered_work_.outcome, ordered_work_.signature, ordered_work_.extent);
  adopt_view(ordered_work_.outcome.epoch);
}

Work* Engine::submit(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape,
                     const Extent& extent, bool attended) {
  throw_if_fenced();
  const Meaning meaning = meaning_of(signature, view());
  Work* work = works_.take(2);  // the caller's reference, and the engine's
  work->name.assign(name);
  work->signature = signature;
  work->meaning = meaning;
  work->shape.assign(shape.begin(), shape.end());
  work->extent = extent;
  enqueue(work, attended);
  return work;
}

void Engine::run(std::string_view name, const Signature& signature, MemberId root, const Extent& extent,
                 Errand& errand) {
  Work* work = works_.take(1);
  work->name.assign(name);
  work->signature = signature;
  work->meaning = {view().epoch, root, 0};
  work->shape.clear();
  work->extent = extent;
  work->errand = &errand;
  errands_.fetch_add(1, std::memory_order_seq_cst);
  enqueue(work, false);
}

void Engine::enqueue(Work* work, bool attended) {
  unfinished_.fetch_add(1, std::memory_order_seq_cst);
  if (halted_.load(std::memory_order_relaxed) == 0 && token_.try_acquire()) {
    if (inbox_filled_.load(std::memory_order_acquire)) accept_inbox();
    accept(work);
    drive_once();
    token_.release();
    if (!attended) hand_over();
    return;
  }
  {
    const MutexLock lock(inbox_mutex_);
    submitted_.push_back(work);
    inbox_filled_.store(true, std::memory_order_seq_cst);  // seq_cst: see unattended_work() and sleep_unless()
  }
  if (fenced_.load(std::memory_order_seq_cst)) return end_what_came_late();  // seq_cst: see fence()
  wake_driver();
  if (!attended) wake_background();
}

// After a fence nobody drives any more.
void Engine::end_what_came_late() {
  token_.acquire();
  accept_inbox();
  token_.release();
}

bool Engine::wait(Work& work, std::optional<Duration> timeout) {
  const bool ended = drive_until([&work] { return work.done(); }, &work, timeout);
  if (ended) adopt_view(work.outcome.epoch);
  return ended;
}

void Engine::wait_for_successor(Epoch epoch) {
  const auto entered = [&] {
    return installed_epoch_.load(std::memory_order_seq_cst) > epoch.value || fenced_.load(std::memory_order_acquire);
  };
  drive_until(entered, nullptr, std::nullopt);
  throw_if_fenced();
  // Not the last one that there may be by now: all members must return in the same view.
  adopt_view(Epoch{epoch.value + 1});
}

void Engine::release_token() noexcept {
  attended_ = nullptr;
  token_.release();
  hand_over();
}

void Engine::hand_over() noexcept {
  if (!wake_waiting() && unattended_work()) wake_background();
}

// Those who wait for another driver look again. False where there are none.
bool Engine::wake_waiting() noexcept {
  if (waiting_.load(std::memory_order_seq_cst) == 0) return false;
  turn_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(turn_);
  return true;
}

void Engine::wake_driver() noexcept {
  wake_word_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(wake_word_);
  transport_.wake();
}

void Engine::wake_background() noexcept {
  background_word_.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(background_word_);
}

void Engine::watch(PlaneWatcher& watcher) {
  const MutexLock lock(watcher_mutex_);
  watcher_ = &watcher;
  watcher.entered(views_.installed());
}

void Engine::tell(MemberId to, std::span<const std::byte> message) {
  if (const Status status = device_link_.send(to, message); !status.ok())
    log_(LogLevel::warn, "cuda", "{}", status.message());
}

void Engine::resign(const Status& cause) {
  if (requests_ != nullptr) requests_->resign(cause);
}

void Engine::on_device_message(MemberId from, std::span<const std::byte> message) {
  const MutexLock lock(watcher_mutex_);
  if (watcher_ != nullptr) watcher_->told(from, message);
}

void Engine::throw_if_fenced() const {
  if (fenced_.load(std::memory_order_acquire)) throw Error(fence_cause_);
}

void Engine::run_background() {
  for (;;) {
    // Before all that is looked at: whoever changes that changes the word afterwards.
    const std::uint32_t seen = background_word_.load(std::memory_order_seq_cst);
    if (fenced_.load(std::memory_order_seq_cst)) return;
    Duration nap = std::chrono::hours(1);
    const auto relieved = [this] {
      return !unattended_work() || callers_.load(std::memory_order_seq_cst) > 0 ||
             fenced_.load(std::memory_order_acquire);
    };
    if (callers_.load(std::memory_order_seq_cst) == 0 && halted_.load(std::memory_order_seq_cst) == 0 &&
        token_.try_acquire()) {
      Ladder ladder(kUnattended);
      for (std::uint32_t turn = 1; !relieved() && halted_.load(std::memory_order_relaxed) == 0; ++turn) {
        if (turn % kTurnsPerPatience == 0) check_patience();
        if (drive_once())
          ladder.restart();
        else if (!ladder.climb())
          sleep_unless(relieved, kLongestNap);
      }
      nap = check_patience();
      token_.release();
      wake_waiting();
    } else {
      nap = kLongestNap;  // somebody else drives; look again in case it goes away
    }
    futex_wait(background_word_, seen, nap);
  }
}

}  // namespace hora::engine
