// How a thread gets the engine's token, drives with it, and waits while another one drives. Templates of Engine over
// the condition that the thread waits for; included by the engine's own sources only.
//
// The words by which threads find each other:
//
//   word               changed by                                  slept on by                      who looks then at
//   token_             who begins, drives or freezes               nobody                           -
//   halted_            freeze() and thaw()                         who wants the token              token_
//   turn_              who lets go of the token with others        who wants the token; counted     done(), token_
//                      waiting, or ends what another waits for     in waiting_
//   wake_word_         who has news for the driver: the inbox,     the driver, in sleep_unless()    the inbox,
//   is_wanted(),
//                      peers, a thread that wants the token                                         the transport
//   background_word_   who leaves work that nobody waits for       the background thread            unattended_work()
//
// callers_ and beginners_ only count: the background thread makes way for the first, every driver for the second.
#pragma once

#include <algorithm>

#include "engine/engine.h"

namespace hora::engine {

inline constexpr Duration kLongestNap =
    std::chrono::seconds(1);  // every wait looks again after this long; none depends on it
inline constexpr Duration kInterruptionsEvery = std::chrono::milliseconds(500);  // a wait goes on without a look
inline constexpr std::uint32_t kTurnsPerClock = 64;                              // of a driver with a deadline
inline constexpr std::uint32_t kTurnsPerPatience = 4096;                         // of a driver that never gets to sleep

// True once this thread holds the token; false when `done` holds, or the deadline passed, without it. Who drives lets
// go for a thread that must begin something: it would keep it away for as long as it waits itself.
template <typename Done>
bool Engine::take_token(const Done& done, std::optional<TimePoint> deadline, Purpose purpose) {
  const bool begins = purpose == Purpose::begin;
  const auto is_my_turn = [&] { return begins || beginners_.load(std::memory_order_seq_cst) == 0; };
  if (halted_.load(std::memory_order_relaxed) == 0 && is_my_turn() && token_.try_acquire()) return true;
  callers_.fetch_add(1, std::memory_order_seq_cst);
  if (begins) beginners_.fetch_add(1, std::memory_order_seq_cst);
  wake_driver();  // after the counts, which it looks at
  Ladder ladder(options_.ladder);
  bool held = false;
  while (!done() && !(deadline && clock_.now() >= *deadline)) {
    if (halted_.load(std::memory_order_seq_cst) != 0) {
      futex_wait(halted_, 1, deadline ? std::min(kLongestNap, *deadline - clock_.now()) : kLongestNap);
      continue;
    }
    if (is_my_turn() && (held = token_.try_acquire())) break;
    if (ladder.climb()) continue;
    waiting_.fetch_add(1, std::memory_order_seq_cst);
    const std::uint32_t seen = turn_.load(std::memory_order_seq_cst);
    if (!done() && !(is_my_turn() && token_.is_free()))
      futex_wait(turn_, seen, deadline ? std::min(kLongestNap, *deadline - clock_.now()) : kLongestNap);
    waiting_.fetch_sub(1, std::memory_order_seq_cst);
  }
  if (begins) beginners_.fetch_sub(1, std::memory_order_seq_cst);
  callers_.fetch_sub(1, std::memory_order_seq_cst);
  if (!held) hand_over();
  return held;
}

// By the holder of the token, until `done`, the deadline, or another thread's greater need of it.
template <typename Done>
void Engine::drive(const Done& done, std::optional<TimePoint> deadline) {
  Ladder ladder(options_.ladder);
  for (std::uint32_t turn = 1; !done() && !is_wanted(); ++turn) {
    const bool moved = drive_once();
    // Others' traffic may keep this thread from sleeping for ever, and so from looking at what does not move.
    if (turn % kTurnsPerPatience == 0) check_patience();
    if (deadline && turn % kTurnsPerClock == 0 && clock_.now() >= *deadline) return;
    if (moved) {
      ladder.restart();
      continue;
    }
    if (ladder.climb()) continue;
    sleep_unless(done, deadline ? std::min(kLongestNap, *deadline - clock_.now()) : kLongestNap);
    if (deadline && clock_.now() >= *deadline) return;
  }
}

// Waits for `done`, driving whenever nobody else does. `own` is the work whose end this thread sees without being
// woken.
template <typename Done>
bool Engine::drive_until(const Done& done, const Work* own, std::optional<Duration> timeout) {
  std::optional<TimePoint> deadline;
  if (timeout) deadline = clock_.now() + *timeout;
  while (!done()) {
    if (!take_token(done, deadline, Purpose::drive)) break;
    attended_ = own;
    drive(done, deadline);
    release_token();
    if (deadline && clock_.now() >= *deadline) break;
  }
  return done();
}

template <typename Done>
void Engine::sleep_unless(const Done& done, Duration longest) {
  transport_.begin_sleep();
  // Read before the last look: whoever fills the inbox, interrupts or wants the token changes it afterwards.
  const std::uint32_t seen = wake_word_.load(std::memory_order_seq_cst);
  if (!drive_once() && !done() && !is_wanted()) transport_.sleep(wake_word_, seen, std::min(longest, check_patience()));
  transport_.end_sleep();
}

}  // namespace hora::engine
