// The reduce kernels against references written element by element, and against each other, bit for bit.
#include "collectives/reduce_kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <vector>

#include "base/random.h"

namespace hora::collectives {
namespace {

using Bytes = std::vector<std::byte>;

std::vector<ReduceVariant> available_variants() {
  std::vector<ReduceVariant> variants;
  for (int i = 0; i < kReduceVariantCount; ++i)
    if (is_available(static_cast<ReduceVariant>(i))) variants.push_back(static_cast<ReduceVariant>(i));
  return variants;
}

// float16 by its definition in IEEE 754.
float half_to_float(std::uint16_t half) {
  const int exponent = half >> 10 & 31;
  const int fraction = half & 1023;
  const float sign = (half & 0x8000) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return fraction == 0 ? sign * INFINITY : std::nanf("");
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(fraction), -24);
  return sign * std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
}

// The nearest half by search: the larger of two equally near must have the even pattern.
std::uint16_t float_to_half(float value) {
  if (std::isnan(value)) return 0x7e00;
  const std::uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(static_cast<double>(value));
  if (magnitude >= 65520) return sign | 0x7c00;
  std::uint16_t low = 0;
  std::uint16_t high = 0x7c00;
  while (high - low > 1) {
    const auto middle = static_cast<std::uint16_t>((low + high) / 2);
    (static_cast<double>(half_to_float(middle)) <= magnitude ? low : high) = middle;
  }
  const double below = magnitude - half_to_float(low);
  const double above = (high == 0x7c00 ? 65536.0 : half_to_float(high)) - magnitude;
  const bool up = above < below || (above == below && (low & 1) != 0);
  return static_cast<std::uint16_t>(sign | (up ? high : low));
}

float bfloat_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t float_to_bfloat(float value) {
  if (std::isnan(value)) return 0x7fc0;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t rest = bits & 0xffff;
  auto high = static_cast<std::uint16_t>(bits >> 16);
  if (rest > 0x8000 || (rest == 0x8000 && (high & 1) != 0)) ++high;
  return high;
}

template <typename T>
T reference(ReduceOp op, const std::vector<T>& values) {
  T result = values[0];
  for (std::size_t i = 1; i < values.size(); ++i) {
    const T next = values[i];
    if constexpr (std::is_floating_point_v<T>) {
      switch (op) {
        case ReduceOp::sum:
        case ReduceOp::average: result = result + next; break;
        case ReduceOp::product: result = result * next; break;
        case ReduceOp::min: result = std::isnan(result) || result < next ? result : next; break;
        case ReduceOp::max: result = std::isnan(result) || result > next ? result : next; break;
      }
    } else {
      using U = std::make_unsigned_t<T>;
      switch (op) {
        case ReduceOp::sum: result = static_cast<T>(static_cast<U>(std::uint64_t(result) + std::uint64_t(next))); break;
        case ReduceOp::product:
          result = static_cast<T>(static_cast<U>(std::uint64_t(result) * std::uint64_t(next)));
          break;
        case ReduceOp::min: result = std::min(result, next); break;
        case ReduceOp::max: result = std::max(result, next); break;
        case ReduceOp::average: FAIL("integers have no average");
      }
    }
  }
  if constexpr (std::is_floating_point_v<T>) {
    if (op == ReduceOp::average) result = result / static_cast<T>(values.size());
    if (std::isnan(result)) result = std::numeric_limits<T>::quiet_NaN();
  }
  return result;
}

template <typename Stored, typename Value, typename Widen, typename Narrow>
void reference_into(std::byte* target, ReduceOp op, const std::vector<Bytes>& sources, std::size_t count, Widen widen,
                    Narrow narrow) {
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<Value> values;
    for (const Bytes& source : sources) {
      Stored stored;
      std::memcpy(&stored, source.data() + i * sizeof(Stored), sizeof(Stored));
      values.push_back(widen(stored));
    }
    const Stored result = narrow(reference(op, values));
    std::memcpy(target + i * sizeof(Stored), &result, sizeof(Stored));
  }
}

template <typename T>
void plain_reference(std::byte* target, ReduceOp op, const std::vector<Bytes>& sources, std::size_t count) {
  const auto same = [](T value) { return value; };
  reference_into<T, T>(target, op, sources, count, same, same);
}

Bytes reference(DataType dtype, ReduceOp op, const std::vector<Bytes>& sources, std::size_t count) {
  Bytes result(count * size_of(dtype));
  std::byte* at = result.data();
  switch (dtype) {
    case DataType::float16:
      reference_into<std::uint16_t, float>(at, op, sources, count, half_to_float, float_to_half);
      break;
    case DataType::bfloat16:
      reference_into<std::uint16_t, float>(at, op, sources, count, bfloat_to_float, float_to_bfloat);
      break;
    case DataType::float32: plain_reference<float>(at, op, sources, count); break;
    case DataType::float64: plain_reference<double>(at, op, sources, count); break;
    case DataType::int8: plain_reference<std::int8_t>(at, op, sources, count); break;
    case DataType::int16: plain_reference<std::int16_t>(at, op, sources, count); break;
    case DataType::int32: plain_reference<std::int32_t>(at, op, sources, count); break;
    case DataType::int64: plain_reference<std::int64_t>(at, op, sources, count); break;
    case DataType::uint8: plain_reference<std::uint8_t>(at, op, sources, count); break;
  }
  return result;
}

// Random bits: floating numbers of every kind, infinities and NaN included. One in four elements is small and exact.
std::vector<Bytes> random_sources(Random& random, DataType dtype, int source_count, std::size_t count) {
  std::vector<Bytes> sources;
  for (int i = 0; i < source_count; ++i) {
    Bytes source(count * size_of(dtype));
    for (std::byte& byte : source) byte = static_cast<std::byte>(random.next());
    for (std::size_t e = 0; e < count; e += 4) {
      const float value = static_cast<float>(random.below(9)) - 4;
      std::byte* at = source.data() + e * size_of(dtype);
      if (dtype == DataType::float32) std::memcpy(at, &value, 4);
      if (dtype == DataType::float64) std::memcpy(at, std::vector<double>{value}.data(), 8);
      const std::uint16_t half = dtype == DataType::float16 ? float_to_half(value) : float_to_bfloat(value);
      if (size_of(dtype) == 2 && is_floating(dtype)) std::memcpy(at, &half, 2);
    }
    sources.push_back(std::move(source));
  }
  return sources;
}

std::vector<const std::byte*> pointers(const std::vector<Bytes>& sources) {
  std::vector<const std::byte*> result;
  for (const Bytes& source : sources) result.push_back(source.data());
  return result;
}

template <typename Visit>
void for_each_supported(Visit visit) {
  for (int d = 0; d < kDataTypeCount; ++d)
    for (int o = 0; o < kReduceOpCount; ++o)
      if (is_supported(static_cast<DataType>(d), static_cast<ReduceOp>(o)))
        visit(static_cast<DataType>(d), static_cast<ReduceOp>(o));
}

int divisor_of(ReduceOp op, int source_count) {
  return op == ReduceOp::average ? source_count : 1;
}

TEST_CASE("every variant gives the bits of the reference") {
  Random random(20261121);
  for (const ReduceVariant variant : available_variants()) {
    for_each_supported([&](DataType dtype, ReduceOp op) {
      const ReduceKernel kernel = find_reduce_kernel(variant, dtype, op);
      REQUIRE(kernel != nullptr);
      for (const int source_count : {1, 2, 3, 4, 5, 9}) {
        for (const std::size_t count : {0, 1, 7, 16, 33, 131, 1000}) {
          const std::vector<Bytes> sources = random_sources(random, dtype, source_count, count);
          const Bytes expected = reference(dtype, op, sources, count);
          Bytes target(expected.size());
          Bytes copy(expected.size());
          kernel(target.data(), copy.data(), pointers(sources).data(), source_count, count,
                 divisor_of(op, source_count));
          INFO(to_string(variant) << " " << to_string(dtype) << " " << to_string(op) << " sources " << source_count
                                  << " count " << count);
          REQUIRE(target == expected);
          REQUIRE(copy == expected);
        }
      }
    });
  }
}

// Around the least normal number: what flushing takes for zero, as source, sum or quotient.
template <typename T>
Bytes small_numbers(Random& random, std::size_t count) {
  Bytes source(count * sizeof(T));
  for (std::size_t i = 0; i < count; ++i) {
    const T value = std::numeric_limits<T>::min() * static_cast<T>(1 + random.below(1000)) / 500;
    const T odd = value + static_cast<T>(random.below(8)) * std::numeric_limits<T>::denorm_min();
    const T either = random.below(2) == 0 ? odd : -odd;
    std::memcpy(source.data() + i * sizeof(T), &either, sizeof(T));
  }
  return source;
}

TEST_CASE("how the calling thread rounds and flushes does not change the bits, and stays as it was") {
  Random random(20261122);
  constexpr std::size_t kCount = 131;
  const int mode = GENERATE(FE_TONEAREST, FE_TOWARDZERO, FE_UPWARD);
  for (const ReduceVariant variant : available_variants()) {
    for_each_supported([&](DataType dtype, ReduceOp op) {
      if (!is_floating(dtype)) return;
      std::vector<Bytes> sources;
      for (int i = 0; i < 3; ++i)
        sources.push_back(dtype == DataType::float64   ? small_numbers<double>(random, kCount)
                          : dtype == DataType::float32 ? small_numbers<float>(random, kCount)
                                                       : random_sources(random, dtype, 1, kCount)[0]);
      const Bytes expected = reference(dtype, op, sources, kCount);
      Bytes target(expected.size());
      const auto kernel = find_reduce_kernel(variant, dtype, op);
      const auto at = pointers(sources);
      std::fenv_t before;
      REQUIRE(std::fegetenv(&before) == 0);
      REQUIRE(std::fesetround(mode) == 0);
#if defined(__x86_64__)
      _MM_SET_FLUSH_ZERO_MODE(_MM_FLUSH_ZERO_ON);
      _MM_SET_DENORMALS_ZERO_MODE(_MM_DENORMALS_ZERO_ON);
      const unsigned set = _mm_getcsr();
      kernel(target.data(), nullptr, at.data(), 3, kCount, divisor_of(op, 3));
      const bool kept = _mm_getcsr() == set;
#else
      kernel(target.data(), nullptr, at.data(), 3, kCount, divisor_of(op, 3));
      const bool kept = std::fegetround() == mode;
#endif
      std::fesetenv(&before);
      INFO(to_string(variant) << " " << to_string(dtype) << " " << to_string(op) << " rounding mode " << mode);
      REQUIRE(target == expected);
      REQUIRE(kept);
    });
  }
}

TEST_CASE("every float16 survives, and rounds to the nearest even") {
  std::vector<Bytes> sources(1, Bytes(65536 * 2));
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const auto half = static_cast<std::uint16_t>(i);
    std::memcpy(sources[0].data() + 2 * i, &half, 2);
  }
  const std::vector<std::uint16_t> factors = {0x3c00, 0x3801, 0x0001, 0x3bff, 0x4401};  // 1, 0.5.., 2^-24, 1-, 4..
  for (const ReduceVariant variant : available_variants()) {
    for (const std::uint16_t factor : factors) {
      std::vector<Bytes> both = sources;
      both.push_back(Bytes(65536 * 2));
      for (std::uint32_t i = 0; i < 65536; ++i) std::memcpy(both[1].data() + 2 * i, &factor, 2);
      Bytes target(65536 * 2);
      find_reduce_kernel(variant, DataType::float16, ReduceOp::product)(target.data(), nullptr, pointers(both).data(),
                                                                        2, 65536, 1);
      INFO(to_string(variant) << " factor " << factor);
      REQUIRE(target == reference(DataType::float16, ReduceOp::product, both, 65536));
    }
  }
}

TEST_CASE("target may be a source and nothing need be aligned") {
  Random random(7);
  for (const ReduceVariant variant : available_variants()) {
    for_each_supported([&](DataType dtype, ReduceOp op) {
      const std::size_t count = 77;
      const std::vector<Bytes> sources = random_sources(random, dtype, 3, count);
      const Bytes expected = reference(dtype, op, sources, count);
      for (int in_place = 0; in_place < 3; ++in_place) {
        std::vector<Bytes> shifted;
        std::vector<const std::byte*> at;
        for (const Bytes& source : sources) {
          shifted.emplace_back(source.size() + 1);
          std::copy(source.begin(), source.end(), shifted.back().begin() + 1);
        }
        for (const Bytes& source : shifted) at.push_back(source.data() + 1);
        std::byte* target = shifted[static_cast<std::size_t>(in_place)].data() + 1;
        find_reduce_kernel(variant, dtype, op)(target, nullptr, at.data(), 3, count, divisor_of(op, 3));
        INFO(to_string(variant) << " " << to_string(dtype) << " " << to_string(op) << " in place of " << in_place);
        REQUIRE(Bytes(target, target + expected.size()) == expected);
      }
    });
  }
}

TEST_CASE("the chosen kernel is the best available variant's") {
  const ReduceVariant best = available_variants().back();
  CHECK(find_reduce_kernel(DataType::float32, ReduceOp::sum) ==
        find_reduce_kernel(best, DataType::float32, ReduceOp::sum));
  CHECK(is_available(ReduceVariant::generic));
}

}  // namespace
}  // namespace hora::collectives
