// The system's monotonic clock (CLOCK_MONOTONIC). Built by the composition roots only.
#pragma once

#include <chrono>

#include "interfaces/clock.h"

namespace hora {

class SystemClock : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override {
    return TimePoint(std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace hora
