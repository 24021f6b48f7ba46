// The reductions, written once with the compiler's vector types of HORA_VECTOR_BYTES. Included by one file for each
// variant, which is compiled with that variant's instructions: all is in an unnamed namespace and no library function
// is used, so that no such code is shared with files that run on older processors.
//
// The same expressions work on a vector and on a single element (the tail), operations of IEEE 754 are correctly
// rounded in both, and multiplications and additions are never contracted: so all variants give the same bits.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__F16C__)
#include <immintrin.h>
#endif

#include "hora/types.hpp"

#define HORA_INLINE __attribute__((always_inline)) inline

namespace hora::collectives {
namespace {

// What the processor's floating-point control word says of the thread that drives: an application may flush subnormals
// to zero, round otherwise or trap in one thread of one rank, and every rank must come to the same bits. While this
// lives the thread has the defaults of IEEE 754. Reads the word once, writes it only where it differs.
#if defined(__x86_64__) || defined(__aarch64__)
class DefaultFloatMode {
 public:
  DefaultFloatMode() noexcept : found_(read()) {
    if (differs()) write(kDefault);
  }
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;
  ~DefaultFloatMode() {
    if (differs()) write(found_);
  }

 private:
  // The clobber keeps the loads and stores of the kernel, and so what is computed between them, inside.
#if defined(__x86_64__)
  using Word = std::uint32_t;
  static constexpr Word kDefault = 0x1f80;  // MXCSR: every exception masked
  static constexpr Word kFlags = 0x3f;      // exceptions that were seen
  static HORA_INLINE Word read() noexcept {
    Word word;
    __asm__ volatile("stmxcsr %0" : "=m"(word));
    return word;
  }
  static HORA_INLINE void write(Word word) noexcept {
    __asm__ volatile("ldmxcsr %0" : : "m"(word) : "memory");
  }
#else
  using Word = std::uint64_t;
  static constexpr Word kDefault = 0;  // FPCR; the flags are in another register
  static constexpr Word kFlags = 0;
  static HORA_INLINE Word read() noexcept {
    Word word;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    return word;
  }
  static HORA_INLINE void write(Word word) noexcept {
    __asm__ volatile("msr fpcr, %0" : : "r"(word) : "memory");
  }
#endif
  [[nodiscard]] bool differs() const noexcept {
    return (found_ & ~kFlags) != kDefault;
  }

  Word found_;
};
#else
struct DefaultFloatMode {
  DefaultFloatMode() noexcept {}
};
#endif

template <typename T, int Width>
struct LanesOf {
  typedef T Type __attribute__((vector_size(Width * sizeof(T))));
};
template <typename T>
struct LanesOf<T, 1> {
  using Type = T;
};
// Width elements of T: a vector, or T itself for one.
template <typename T, int Width>
using Lanes = typename LanesOf<T, Width>::Type;

template <typename To, typename From>
HORA_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

template <typename V>
HORA_INLINE V load_raw(const std::byte* from) {
  V value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}

template <int Width, typename To, typename From>
HORA_INLINE Lanes<To, Width> convert(Lanes<From, Width> from) {
  if constexpr (Width == 1) {
    return static_cast<To>(from);
  } else {
    return __builtin_convertvector(from, Lanes<To, Width>);
  }
}

// An element type: how it is stored, what it is computed in, and the way between.
template <typename T>
struct Plain {
  using Stored = T;
  using Value = T;
  template <int Width>
  static HORA_INLINE Lanes<T, Width> widen(Lanes<T, Width> stored) {
    return stored;
  }
  template <int Width>
  static HORA_INLINE Lanes<T, Width> narrow(Lanes<T, Width> value) {
    return value;
  }
};

struct Bfloat16 {
  using Stored = std::uint16_t;
  using Value = float;
  template <int Width>
  static HORA_INLINE Lanes<float, Width> widen(Lanes<std::uint16_t, Width> stored) {
    return bits_as<Lanes<float, Width>>(convert<Width, std::uint32_t, std::uint16_t>(stored) << 16);
  }
  // The value is no NaN but the canonical one, which survives the rounding.
  template <int Width>
  static HORA_INLINE Lanes<std::uint16_t, Width> narrow(Lanes<float, Width> value) {
    const auto bits = bits_as<Lanes<std::uint32_t, Width>>(value);
    return convert<Width, std::uint16_t, std::uint32_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
  }
};

struct Float16 {
  using Stored = std::uint16_t;
  using Value = float;

  template <int Width>
  static HORA_INLINE Lanes<float, Width> widen(Lanes<std::uint16_t, Width> stored) {
#if defined(__AVX512F__)
    if constexpr (Width == 16) return bits_as<Lanes<float, 16>>(_mm512_cvtph_ps(bits_as<__m256i>(stored)));
#elif defined(__F16C__)
    if constexpr (Width == 8) return bits_as<Lanes<float, 8>>(_mm256_cvtph_ps(bits_as<__m128i>(stored)));
#endif
    using Floats = Lanes<float, Width>;
    using Words = Lanes<std::uint32_t, Width>;
    const Words half = convert<Width, std::uint32_t, std::uint16_t>(stored);
    const Words magnitude = half & 0x7fffU;
    const Words sign = (half & 0x8000U) << 16;
    // Exponents 1 to 30 move to float32's bias; 31 to its own largest; the subnormals are multiples of 2^-24.
    const Words normal = (magnitude << 13) + (112U << 23);
    const Words special = (magnitude << 13) | 0x7f800000U;
    const Floats small = convert<Width, float, std::int32_t>(bits_as<Lanes<std::int32_t, Width>>(magnitude)) * 0x1p-24F;
    const Words subnormal = bits_as<Words>(small);
    const Words large = magnitude >= 0x7c00U ? special : normal;
    return bits_as<Floats>((magnitude < 0x400U ? subnormal : large) | sign);
  }

  template <int Width>
  static HORA_INLINE Lanes<std::uint16_t, Width> narrow(Lanes<float, Width> value) {
#if defined(__AVX512F__)
    if constexpr (Width == 16) {
      return bits_as<Lanes<std::uint16_t, 16>>(
          _mm512_cvtps_ph(bits_as<__m512>(value), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
#elif defined(__F16C__)
    if constexpr (Width == 8) {
      return bits_as<Lanes<std::uint16_t, 8>>(
          _mm256_cvtps_ph(bits_as<__m256>(value), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    }
#endif
    using Floats = Lanes<float, Width>;
    using Words = Lanes<std::uint32_t, Width>;
    const Words bits = bits_as<Words>(value);
    const Words magnitude = bits & 0x7fffffffU;
    const Words sign = (bits >> 16) & 0x8000U;
    const Words normal = (magnitude + 0xfffU + ((magnitude >> 13) & 1U) - (112U << 23)) >> 13;
    // Below 2^-14: the unit in the last place of 0.5 is that of a subnormal half, so the addition rounds.
    const Words subnormal = bits_as<Words>(bits_as<Floats>(magnitude) + 0.5F) - bits_as<Words>(Floats{} + 0.5F);
    const Words infinity = (magnitude & 0U) + 0x7c00U;
    const Words nan = (magnitude & 0U) + 0x7e00U;
    const Words small = magnitude < 0x38800000U ? subnormal : normal;
    const Words special = magnitude > 0x7f800000U ? nan : infinity;
    // 65,520 and more round to infinity.
    return convert<Width, std::uint16_t, std::uint32_t>((magnitude >= 0x477ff000U ? special : small) | sign);
  }
};

template <typename V>
HORA_INLINE V add(V a, V b) {
  return static_cast<V>(a + b);
}
// Not promoted to int, where the product of two 16-bit numbers would overflow.
HORA_INLINE std::uint8_t multiply(std::uint8_t a, std::uint8_t b) {
  return static_cast<std::uint8_t>(1U * a * b);
}
HORA_INLINE std::uint16_t multiply(std::uint16_t a, std::uint16_t b) {
  return static_cast<std::uint16_t>(1U * a * b);
}
template <typename V>
HORA_INLINE V multiply(V a, V b) {
  return a * b;
}

template <ReduceOp Op, typename V>
HORA_INLINE V combine(V a, V b) {
  if constexpr (Op == ReduceOp::product) {
    return multiply(a, b);
  } else if constexpr (Op == ReduceOp::min) {
    return ((a < b) | (a != a)) ? a : b;
  } else if constexpr (Op == ReduceOp::max) {
    return ((a > b) | (a != a)) ? a : b;
  } else {
    return add(a, b);
  }
}

template <typename T>
inline constexpr bool kIsFloat = false;
template <>
inline constexpr bool kIsFloat<float> = true;
template <>
inline constexpr bool kIsFloat<double> = true;

// Divides an average; makes every NaN the same one, whichever operand the processor took it from.
template <ReduceOp Op, typename T, typename V>
HORA_INLINE V complete(V value, T divisor) {
  if constexpr (Op == ReduceOp::average) value = value / divisor;
  if constexpr (kIsFloat<T>) {
    const V nan = V{} + static_cast<T>(__builtin_nanf(""));
    value = value == value ? value : nan;
  }
  return value;
}

// Sources == 0: as many as `source_count` says.
template <typename Element, ReduceOp Op, int Sources, int Width>
HORA_INLINE Lanes<typename Element::Stored, Width> reduce_at(const std::byte* const* sources, int source_count,
                                                             std::size_t offset, typename Element::Value divisor) {
  using Stored = Lanes<typename Element::Stored, Width>;
  const auto read = [&](int i) __attribute__((always_inline)) {
    return Element::template widen<Width>(load_raw<Stored>(sources[i] + offset));
  };
  auto value = read(0);
  const int count = Sources == 0 ? source_count : Sources;
  for (int i = 1; i < count; ++i) value = combine<Op>(value, read(i));
  return Element::template narrow<Width>(complete<Op>(value, divisor));
}

template <typename Element, ReduceOp Op, int Sources, bool Copy>
void reduce(std::byte* target, std::byte* copy, const std::byte* const* sources, int source_count, std::size_t count,
            int divisor) {
  constexpr int kWidth = HORA_VECTOR_BYTES / sizeof(typename Element::Value);
  constexpr std::size_t kSize = sizeof(typename Element::Stored);
  const auto by = static_cast<typename Element::Value>(divisor);
  // A copy of the pointers: the compiler cannot know that the target does not hold them.
  constexpr int kHeld = Sources == 0 ? 1 : Sources;
  const std::byte* held[kHeld];
  for (int i = 0; i < kHeld; ++i) held[i] = sources[i];
  const std::byte* const* from = Sources == 0 ? sources : held;
  const std::size_t bytes = count * kSize;
  std::size_t at = 0;
  for (; at + kWidth * kSize <= bytes; at += kWidth * kSize) {
    const auto value = reduce_at<Element, Op, Sources, kWidth>(from, source_count, at, by);
    __builtin_memcpy(target + at, &value, sizeof(value));
    if constexpr (Copy) __builtin_memcpy(copy + at, &value, sizeof(value));
  }
  for (; at < bytes; at += kSize) {
    const auto value = reduce_at<Element, Op, Sources, 1>(from, source_count, at, by);
    __builtin_memcpy(target + at, &value, sizeof(value));
    if constexpr (Copy) __builtin_memcpy(copy + at, &value, sizeof(value));
  }
}

template <typename Element, ReduceOp Op, bool Copy>
HORA_INLINE void reduce_any(std::byte* target, std::byte* copy, const std::byte* const* sources, int source_count,
                            std::size_t count, int divisor) {
  switch (source_count) {
    case 2: return reduce<Element, Op, 2, Copy>(target, copy, sources, source_count, count, divisor);
    case 3: return reduce<Element, Op, 3, Copy>(target, copy, sources, source_count, count, divisor);
    case 4: return reduce<Element, Op, 4, Copy>(target, copy, sources, source_count, count, divisor);
    default: return reduce<Element, Op, 0, Copy>(target, copy, sources, source_count, count, divisor);
  }
}

template <typename Element, ReduceOp Op>
void kernel(std::byte* target, std::byte* copy, const std::byte* const* sources, int source_count, std::size_t count,
            int divisor) {
  const DefaultFloatMode mode;
  if (copy == nullptr) return reduce_any<Element, Op, false>(target, copy, sources, source_count, count, divisor);
  reduce_any<Element, Op, true>(target, copy, sources, source_count, count, divisor);
}

// Wrapping is defined for unsigned numbers only; their sums and products have the same bits.
template <typename Signed, typename Unsigned>
ReduceKernel integer_kernel(ReduceOp op) noexcept {
  switch (op) {
    case ReduceOp::sum: return kernel<Plain<Unsigned>, ReduceOp::sum>;
    case ReduceOp::product: return kernel<Plain<Unsigned>, ReduceOp::product>;
    case ReduceOp::min: return kernel<Plain<Signed>, ReduceOp::min>;
    case ReduceOp::max: return kernel<Plain<Signed>, ReduceOp::max>;
    case ReduceOp::average: return nullptr;
  }
  return nullptr;
}

template <typename Element>
ReduceKernel floating_kernel(ReduceOp op) noexcept {
  switch (op) {
    case ReduceOp::sum: return kernel<Element, ReduceOp::sum>;
    case ReduceOp::product: return kernel<Element, ReduceOp::product>;
    case ReduceOp::min: return kernel<Element, ReduceOp::min>;
    case ReduceOp::max: return kernel<Element, ReduceOp::max>;
    case ReduceOp::average: return kernel<Element, ReduceOp::average>;
  }
  return nullptr;
}

ReduceKernel select_kernel(DataType dtype, ReduceOp op) noexcept {
  switch (dtype) {
    case DataType::float16: return floating_kernel<Float16>(op);
    case DataType::bfloat16: return floating_kernel<Bfloat16>(op);
    case DataType::float32: return floating_kernel<Plain<float>>(op);
    case DataType::float64: return floating_kernel<Plain<double>>(op);
    case DataType::int8: return integer_kernel<std::int8_t, std::uint8_t>(op);
    case DataType::int16: return integer_kernel<std::int16_t, std::uint16_t>(op);
    case DataType::int32: return integer_kernel<std::int32_t, std::uint32_t>(op);
    case DataType::int64: return integer_kernel<std::int64_t, std::uint64_t>(op);
    case DataType::uint8: return integer_kernel<std::uint8_t, std::uint8_t>(op);
  }
  return nullptr;
}

}  // namespace
}  // namespace hora::collectives
