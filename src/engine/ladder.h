// How to wait: spin while an answer is near, give the processor away where ranks outnumber processors, then sleep.
#pragma once

#include <sched.h>

#include <chrono>
#include <cstdint>

namespace hora::engine {

inline void pause_processor() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Iterations on each rung before the next one.
struct LadderShape {
  std::uint32_t spins;
  std::uint32_t yields;
};
inline constexpr LadderShape kAlone{20'000, 100};   // a processor for every local rank
inline constexpr LadderShape kCrowded{30, 2'000};   // ranks share processors: a spin only delays the answer
inline constexpr LadderShape kSockets{60, 10};      // a look costs a system call, and waking takes no longer
inline constexpr LadderShape kUnattended{200, 10};  // nobody waits: sleep soon
// Where other programs want the processors too, a yield lasts a time slice: better to sleep, and be woken before them.
inline constexpr std::chrono::milliseconds kYieldingLongest(1);

class Ladder {
 public:
  explicit Ladder(const LadderShape& shape) noexcept : shape_(shape) {}

  // Waits a little; false once it is time to sleep.
  bool climb() noexcept {
    if (steps_ < shape_.spins) {
      ++steps_;
      pause_processor();
      return true;
    }
    if (steps_ >= shape_.spins + shape_.yields) return false;
    if (steps_ == shape_.spins) yielding_since_ = Clock::now();
    ++steps_;
    sched_yield();
    if (Clock::now() - yielding_since_ > kYieldingLongest) steps_ = shape_.spins + shape_.yields;
    return true;
  }
  // Something moved: begin again at the bottom.
  void restart() noexcept { steps_ = 0; }

 private:
  using Clock = std::chrono::steady_clock;
  LadderShape shape_;
  Clock::time_point yielding_since_;
  std::uint32_t steps_ = 0;
};

}  // namespace hora::engine
