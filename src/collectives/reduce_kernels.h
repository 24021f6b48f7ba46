// Element-wise reductions of several sources in one pass, in fixed order: the same sources give the same bits on every
// rank.
//
// float16 and bfloat16 are accumulated in float32 and rounded once (to nearest, ties to even). Integers wrap. A
// floating result that is not a number is always the positive quiet NaN without payload; minimum and maximum are NaN
// when any source is, and of two zeros the later source's. The calling thread's rounding and flushing of subnormals
// play no part. Chosen at run time from what the processor can do; every variant gives the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hora/types.hpp"

namespace hora::collectives {

// target[i] = (sources[0][i] op sources[1][i] op ...) / divisor for count elements. `copy`, where not null, receives
// the same values in the same pass. `target` and `copy` may be equal to one of the sources, else must not overlap any.
// The divisor is 1 but for ReduceOp::average. Nothing need be aligned.
using ReduceKernel = void (*)(std::byte* target, std::byte* copy, const std::byte* const* sources, int source_count,
                              std::size_t count, int divisor);

// Never null for a pair that is_supported().
ReduceKernel find_reduce_kernel(DataType dtype, ReduceOp op) noexcept;

// What a variant was compiled for.
enum class ReduceVariant : std::uint8_t { generic, avx2, avx512 };
inline constexpr int kReduceVariantCount = 3;

const char* to_string(ReduceVariant variant) noexcept;
// This processor runs it and this build has it.
bool is_available(ReduceVariant variant) noexcept;
// Precondition: is_available(variant).
ReduceKernel find_reduce_kernel(ReduceVariant variant, DataType dtype, ReduceOp op) noexcept;

// All pairs but the average of integers.
constexpr bool is_supported(DataType dtype, ReduceOp op) noexcept {
  return op != ReduceOp::average || is_floating(dtype);
}

}  // namespace hora::collectives
