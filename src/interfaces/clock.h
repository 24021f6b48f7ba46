// The seam to the system's monotonic clock; tests and the simulator have their own.
#pragma once

#include "base/time.h"

namespace hora {

class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual TimePoint now() const = 0;
};

}  // namespace hora
