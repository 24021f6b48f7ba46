#include "collectives/algorithms.h"

#include <algorithm>
#include <cassert>
#include <string_view>

namespace hora::collectives {
namespace {

constexpr Algorithm kAlgorithms[] = {
    {"direct", Collective::allreduce, direct_allreduce, false},
    {"pairwise", Collective::allreduce, pairwise_allreduce, true},
    {"halving_doubling", Collective::allreduce, halving_doubling_allreduce, true},
    {"ring", Collective::allreduce, ring_allreduce, true},
    {"two_level", Collective::allreduce, two_level_allreduce, true},
    {"tree", Collective::broadcast, tree_broadcast, false},
    {"two_level", Collective::broadcast, two_level_broadcast, false},
    {"direct", Collective::allgather, direct_allgather, false},
    {"ring", Collective::allgather, ring_allgather, false},
    {"two_level", Collective::allgather, two_level_allgather, false},
    {"barrier", Collective::barrier, barrier, false},
};

// Up to here a message costs its latency and its bytes are free.
constexpr std::uint64_t kSmallBytes = 8 << 10;
// From here on the bytes dominate, and a ring keeps every link busy with one neighbour only.
constexpr std::uint64_t kLargeBytes = 4 << 20;
// So many ranks may send to one at a time without crowding its link.
constexpr int kFewRanks = 8;

// Several hosts, and several ranks on one of them.
bool has_two_levels(int size, std::span<const int> hosts) noexcept {
  if (hosts.empty()) return false;
  const int count = *std::ranges::max_element(hosts) + 1;
  return count > 1 && count < size;
}

std::string_view choose(Collective kind, int size, bool two_levels, bool half, std::uint64_t bytes) noexcept {
  const bool few = size <= kFewRanks;
  const bool small = bytes <= kSmallBytes;
  switch (kind) {
    case Collective::allreduce:
      // Between two ranks the direct exchange moves the same bytes as any other, in half the rounds.
      if (size <= 2 || (small && (few || !two_levels))) return "direct";
      if (two_levels) return "two_level";
      if (few || half) return "pairwise";
      return bytes < kLargeBytes ? "halving_doubling" : "ring";
    case Collective::broadcast: return two_levels ? "two_level" : "tree";
    case Collective::allgather:
      if (two_levels && !(small && few)) return "two_level";
      return few || small ? "direct" : "ring";
    case Collective::barrier: return "barrier";
  }
  return {};
}

}  // namespace

std::span<const Algorithm> algorithms() noexcept {
  return kAlgorithms;
}

const Algorithm& select(Collective kind, int size, std::span<const int> hosts, DataType dtype,
                        std::uint64_t bytes) noexcept {
  const std::string_view name = choose(kind, size, has_two_levels(size, hosts), is_half(dtype), bytes);
  for (const Algorithm& algorithm : kAlgorithms)
    if (algorithm.kind == kind && algorithm.name == name) return algorithm;
  assert(false && "choose() names an algorithm that is not in the list");
  return kAlgorithms[0];
}

Schedule barrier(const Shape& shape) {
  return ScheduleBuilder(shape, 0, 0).take();
}

}  // namespace hora::collectives
