// The monotonic clock of the machine. Its values can be compared between processes of one host.
#pragma once

#include <time.h>

#include "interfaces/clock.h"

namespace hora::engine {

class SystemClock final : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override {
    timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return TimePoint(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
  }
};

}  // namespace hora::engine
