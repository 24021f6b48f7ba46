// The bodies of hora's kernels: copy-in of a list of tensors into a stage, and copy-out. They run on the device and, in
// tests, on the host: `first` is the number of the thread and `stride` the number of threads.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/kernels/pieces.h"

#ifdef __CUDACC__
#define HORA_ANYWHERE __host__ __device__ inline
#else
#define HORA_ANYWHERE inline
#endif

namespace hora::cuda {

struct Half {
  std::uint16_t bits;
};
struct BrainHalf {
  std::uint16_t bits;
};

HORA_ANYWHERE std::uint32_t bits_of(float value) {
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}
HORA_ANYWHERE float float_of(std::uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// From an element in memory to what the stage holds.
template <typename Stage, typename Element>
HORA_ANYWHERE Stage widen(Element value) {
  return static_cast<Stage>(value);
}
template <>
HORA_ANYWHERE float widen<float, BrainHalf>(BrainHalf value) {
  return float_of(static_cast<std::uint32_t>(value.bits) << 16);
}
template <>
HORA_ANYWHERE float widen<float, Half>(Half value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000u) << 16;
  const std::uint32_t magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_of(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  if (magnitude >= 0x400u) return float_of(sign | ((magnitude << 13) + 0x38000000u));
  const float subnormal = static_cast<float>(magnitude) * 5.9604644775390625e-08f;  // 2^-24
  return sign != 0 ? -subnormal : subnormal;
}

// From the stage to an element in memory, rounded to the nearest, ties to even.
template <typename Element, typename Stage>
HORA_ANYWHERE Element narrow(Stage value) {
  return static_cast<Element>(value);
}
template <>
HORA_ANYWHERE BrainHalf narrow<BrainHalf, float>(float value) {
  const std::uint32_t bits = bits_of(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>(bits >> 16 | 0x40u)};
  return {static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}
template <>
HORA_ANYWHERE Half narrow<Half, float>(float value) {
  const std::uint32_t bits = bits_of(value);
  const std::uint32_t sign = bits >> 16 & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu))};
  if (magnitude >= 0x47800000u) return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // 65536 and above
  if (magnitude < 0x38800000u) {
    // Below 2^-14: adding 0.5 leaves the 2^-24ths, rounded, in the lowest bits.
    return {static_cast<std::uint16_t>(sign | (bits_of(float_of(magnitude) + 0.5f) - 0x3f000000u))};
  }
  const std::uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<std::uint16_t>(sign | (rounded - 0x38000000u) >> 13)};
}

template <typename Element, typename Stage>
HORA_ANYWHERE void copy_in(const Pieces& pieces, Stage* stage, std::uint64_t first, std::uint64_t stride) {
  std::uint32_t piece = 0;
  for (std::uint64_t i = first; i < pieces.begin[pieces.count]; i += stride) {
    while (i >= pieces.begin[piece + 1]) ++piece;
    const auto* memory = reinterpret_cast<const Element*>(pieces.memory[piece]);
    stage[i] = widen<Stage>(memory[i - pieces.begin[piece]]);
  }
}

// `divisor`: of an average; 1 otherwise.
template <typename Element, typename Stage, bool kDivides>
HORA_ANYWHERE void copy_out(const Pieces& pieces, const Stage* stage, Stage divisor, std::uint64_t first,
                            std::uint64_t stride) {
  std::uint32_t piece = 0;
  for (std::uint64_t i = first; i < pieces.begin[pieces.count]; i += stride) {
    while (i >= pieces.begin[piece + 1]) ++piece;
    Stage value = stage[i];
    if constexpr (kDivides) value /= divisor;
    reinterpret_cast<Element*>(pieces.memory[piece])[i - pieces.begin[piece]] = narrow<Element>(value);
  }
}

// Whether to copy out. The same answer to all threads that ask for one decision.
HORA_ANYWHERE bool decide(const Decision& decision) {
#ifdef __CUDA_ARCH__
  const std::uint32_t raised = *static_cast<const volatile std::uint32_t*>(decision.abort);
  const std::uint32_t wanted = raised != 0 ? decision.frozen : decision.done;
  const std::uint32_t before = atomicCAS(decision.word, decision.held, wanted);
#else
  const std::uint32_t raised = __atomic_load_n(decision.abort, __ATOMIC_ACQUIRE);
  const std::uint32_t wanted = raised != 0 ? decision.frozen : decision.done;
  std::uint32_t before = decision.held;
  __atomic_compare_exchange_n(decision.word, &before, wanted, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
#endif
  return (before == decision.held ? wanted : before) == decision.done;
}

}  // namespace hora::cuda

// Every form, its element, its stage, and whether its copy-out divides: FORM(name, element, stage, divides).
#define HORA_FORMS(FORM)                             \
  FORM(copy1, std::uint8_t, std::uint8_t, false)     \
  FORM(copy2, std::uint16_t, std::uint16_t, false)   \
  FORM(copy4, std::uint32_t, std::uint32_t, false)   \
  FORM(copy8, std::uint64_t, std::uint64_t, false)   \
  FORM(float16, hora::cuda::Half, float, true)       \
  FORM(bfloat16, hora::cuda::BrainHalf, float, true) \
  FORM(int16, std::int16_t, std::int32_t, false)     \
  FORM(float32, float, float, true)                  \
  FORM(float64, double, double, true)
