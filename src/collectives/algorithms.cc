#include "collectives/algorithms.h"

#include <cassert>
#include <string_view>

namespace hora::collectives {
namespace {

constexpr Algorithm kAlgorithms[] = {
    {"direct", Collective::allreduce, direct_allreduce},
    {"pairwise", Collective::allreduce, pairwise_allreduce},
    {"halving_doubling", Collective::allreduce, halving_doubling_allreduce},
    {"ring", Collective::allreduce, ring_allreduce},
    {"tree", Collective::broadcast, tree_broadcast},
    {"direct", Collective::allgather, direct_allgather},
    {"ring", Collective::allgather, ring_allgather},
    {"barrier", Collective::barrier, barrier},
};

// Up to here a message costs its latency and its bytes are free.
constexpr std::uint64_t kSmallBytes = 8 << 10;
// From here on the bytes dominate, and a ring keeps every link busy with one neighbour only.
constexpr std::uint64_t kLargeBytes = 4 << 20;
// So many ranks may send to one at a time without crowding its link.
constexpr int kFewRanks = 8;

std::string_view choose(Collective kind, int size, std::uint64_t bytes) noexcept {
  const bool few = size <= kFewRanks;
  switch (kind) {
    case Collective::allreduce:
      // Between two ranks the direct exchange moves the same bytes as any other, in half the rounds.
      if (size <= 2 || bytes <= kSmallBytes) return "direct";
      if (few) return "pairwise";
      return bytes < kLargeBytes ? "halving_doubling" : "ring";
    case Collective::broadcast: return "tree";
    case Collective::allgather: return few || bytes <= kSmallBytes ? "direct" : "ring";
    case Collective::barrier: return "barrier";
  }
  return {};
}

}  // namespace

std::span<const Algorithm> algorithms() noexcept {
  return kAlgorithms;
}

const Algorithm& select(Collective kind, int size, std::uint64_t bytes) noexcept {
  const std::string_view name = choose(kind, size, bytes);
  for (const Algorithm& algorithm : kAlgorithms)
    if (algorithm.kind == kind && algorithm.name == name) return algorithm;
  assert(false && "choose() names an algorithm that is not in the list");
  return kAlgorithms[0];
}

Schedule barrier(const Shape& shape) {
  return ScheduleBuilder(shape, 0, 0).take();
}

}  // namespace hora::collectives
