// Order statistics of times, and the bandwidths of nccl-tests' PERFORMANCE.md.
#pragma once

#include <cstdint>
#include <vector>

#include "hora/types.hpp"

namespace hora::perf {

// In the unit of the samples.
struct Summary {
  double min = 0, p50 = 0, p95 = 0, p99 = 0, max = 0;
  friend bool operator==(const Summary&, const Summary&) = default;
};

// Percentiles by nearest rank: each is one of the samples. All zero for no samples.
Summary summarize(std::vector<double> samples);

// 10^9 bytes per second; 0 where no time passed.
double algorithm_bandwidth(std::uint64_t bytes, double time_us);

// What the busiest link carries for each byte of the size, when the operation is done as cheaply as can be: makes
// bandwidths of different numbers of ranks comparable.
double bus_factor(Collective kind, int ranks);

}  // namespace hora::perf
