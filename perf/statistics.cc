#include "perf/statistics.h"

#include <algorithm>
#include <cmath>

namespace hora::perf {

Summary summarize(std::vector<double> samples) {
  if (samples.empty()) return {};
  std::sort(samples.begin(), samples.end());
  const auto percentile = [&](double percent) {
    const double rank = std::ceil(percent / 100 * static_cast<double>(samples.size()));
    return samples[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
  };
  return {samples.front(), percentile(50), percentile(95), percentile(99), samples.back()};
}

double algorithm_bandwidth(std::uint64_t bytes, double time_us) {
  return time_us > 0 ? static_cast<double>(bytes) / time_us / 1e3 : 0;
}

double bus_factor(Collective kind, int ranks) {
  const double n = ranks;
  switch (kind) {
    case Collective::allreduce: return 2 * (n - 1) / n;
    case Collective::allgather: return (n - 1) / n;
    case Collective::broadcast: return 1;
    case Collective::barrier: return 0;
  }
  return 0;
}

}  // namespace hora::perf
