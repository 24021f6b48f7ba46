// A wait for what another thread brings about.
#pragma once

#include <chrono>
#include <functional>
#include <thread>

#include "interfaces/system_clock.h"

namespace hora::control {

// False when it has not come about within 10 s.
inline bool eventually(const std::function<bool()>& condition) {
  const SystemClock clock;
  const TimePoint deadline = clock.now() + std::chrono::seconds(10);
  while (!condition()) {
    if (clock.now() >= deadline) return false;
    std::this_thread::yield();
  }
  return true;
}

}  // namespace hora::control
