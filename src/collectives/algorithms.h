// The list of algorithms and the choice among them. A new one is one file and one line in algorithms.cc.
#pragma once

#include <cstdint>
#include <span>

#include "collectives/schedule.h"
#include "hora/types.hpp"

namespace hora::collectives {

struct Algorithm {
  const char* name;
  Collective kind;
  Schedule (*generate)(const Shape& shape);
  bool sliced;  // a message is about one part in `size` of the data
};

std::span<const Algorithm> algorithms() noexcept;

// The algorithm for `bytes` contributed by each of `size` ranks on these hosts (see Shape). Depends on its arguments
// alone, so every rank of a view chooses the same. Latency a, transfer time b per byte: the direct exchange costs
// a + (n-1)Sb, pairwise 2a + 2fSb, halving-doubling 2 lg(n) a + 2fSb and the ring 2(n-1)a + 2fSb with f = (n-1)/n, but
// only ever one peer per direction. Where hosts have several ranks, two levels keep the links between hosts for what
// must travel there. Half types take an algorithm that reduces each element in one place: its partial sums would be
// rounded at every step.
const Algorithm& select(Collective kind, int size, std::span<const int> hosts, DataType dtype,
                        std::uint64_t bytes) noexcept;

// allreduce
Schedule direct_allreduce(const Shape& shape);
Schedule pairwise_allreduce(const Shape& shape);
Schedule halving_doubling_allreduce(const Shape& shape);
Schedule ring_allreduce(const Shape& shape);
Schedule two_level_allreduce(const Shape& shape);
// broadcast
Schedule tree_broadcast(const Shape& shape);
Schedule two_level_broadcast(const Shape& shape);
// allgather
Schedule direct_allgather(const Shape& shape);
Schedule ring_allgather(const Shape& shape);
Schedule two_level_allgather(const Shape& shape);
// A barrier moves nothing: every operation ends after the arrival of all ranks, and that is all a barrier is.
Schedule barrier(const Shape& shape);

}  // namespace hora::collectives
