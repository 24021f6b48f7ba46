// Known inputs of every rank, and the results that follow from them.
//
// Inputs repeat after kPeriod elements, a prime, so that a chunk that lands in the wrong place does not look right.
// Values are small enough for a sum to be exact in every type but for averages.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "hora/types.hpp"

namespace hora::perf {

inline constexpr std::uint64_t kPeriod = 251;

// The element that rank `rank` gives at `position` of the call that `salt` names.
double input_value(ReduceOp op, int rank, std::uint64_t position, std::uint64_t salt);
// What reducing the inputs of ranks 0 to ranks - 1 must give.
double reduced_value(ReduceOp op, int ranks, std::uint64_t position, std::uint64_t salt);

// One period of elements as they lie in memory.
class Pattern {
 public:
  // value(position) for position 0 to kPeriod - 1; integers wrap.
  template <typename Value>
  Pattern(DataType dtype, Value value) : dtype_(dtype) {
    for (std::uint64_t position = 0; position < kPeriod; ++position) set(position, value(position));
  }

  // target[i] = pattern[i % kPeriod]
  void fill(std::span<std::byte> target) const;
  // How many elements of `result` differ from the pattern by more than `ulps` units in the last place (0: any bit).
  [[nodiscard]] std::uint64_t count_wrong(std::span<const std::byte> result, double ulps) const;
  [[nodiscard]] std::span<const std::byte> element(std::uint64_t position) const {
    return std::span(bytes_).subspan(position % kPeriod * size_of(dtype_), size_of(dtype_));
  }

 private:
  void set(std::uint64_t position, double value);

  DataType dtype_;
  std::array<std::byte, kPeriod * 8> bytes_{};
};

// Whether `element` is `wanted`, or differs by at most `ulps` units in the last place. Integers must be equal.
bool is_right(const std::byte* element, DataType dtype, double wanted, double ulps);

// Units in the last place by which a correct result may differ: the order of additions is fixed, so only an average,
// whose quotient is rounded, may differ at all.
double tolerance_ulps(ReduceOp op);

}  // namespace hora::perf
