// Monotonic time as a value. Policy code receives it as an argument; only Clock reads it from the system.
#pragma once

#include <chrono>

namespace hora {

using Duration = std::chrono::nanoseconds;

// Tag only: has no now() on purpose, so that code holding TimePoints cannot read a clock.
struct MonotonicTime {
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicTime, Duration>;
};
using TimePoint = MonotonicTime::time_point;

}  // namespace hora
