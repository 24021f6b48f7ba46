#include "perf/elements.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/random.h"

namespace hora::perf {

namespace {

constexpr int kValues = 7;
// Products of more factors of 2 would leave the range of int8.
constexpr int kRanksWithFactors = 5;

struct HalfFormat {
  int mantissa_bits;
  int exponent_bits;
};
constexpr HalfFormat kFloat16 = {10, 5};
constexpr HalfFormat kBFloat16 = {7, 8};

// `value` is zero or a normal number of the format; rounds to nearest, ties to even.
std::uint16_t encode_half(double value, HalfFormat format) {
  if (value == 0) return 0;
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  int exponent = 0;
  const double fraction = std::frexp(std::abs(value), &exponent);  // in [0.5, 1)
  const auto mantissa = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(fraction, format.mantissa_bits + 1)));
  // The implicit bit of the mantissa adds one to the exponent; a carry out of rounding adds another.
  const std::uint32_t bits = (static_cast<std::uint32_t>(exponent - 2 + bias) << format.mantissa_bits) + mantissa;
  return static_cast<std::uint16_t>(bits | (value < 0 ? 0x8000u : 0u));
}

double decode_half(std::uint16_t bits, HalfFormat format) {
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  const int exponent = (bits & 0x7fff) >> format.mantissa_bits;
  const int mantissa = bits & ((1 << format.mantissa_bits) - 1);
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, 1 - bias - format.mantissa_bits)
                    : std::ldexp(mantissa + (1 << format.mantissa_bits), exponent - bias - format.mantissa_bits);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

template <typename T>
void store(std::byte* target, T value) {
  std::memcpy(target, &value, sizeof value);
}

template <typename T>
T load(const std::byte* source) {
  T value;
  std::memcpy(&value, source, sizeof value);
  return value;
}

void encode(std::byte* target, DataType dtype, double value) {
  const auto whole = static_cast<std::int64_t>(value);
  switch (dtype) {
    case DataType::float16: return store(target, encode_half(value, kFloat16));
    case DataType::bfloat16: return store(target, encode_half(value, kBFloat16));
    case DataType::float32: return store(target, static_cast<float>(value));
    case DataType::float64: return store(target, value);
    case DataType::int8: return store(target, static_cast<std::int8_t>(whole));
    case DataType::int16: return store(target, static_cast<std::int16_t>(whole));
    case DataType::int32: return store(target, static_cast<std::int32_t>(whole));
    case DataType::int64: return store(target, whole);
    case DataType::uint8: return store(target, static_cast<std::uint8_t>(whole));
  }
}

// Of floating types only: integers are compared by their bits.
double decode_floating(const std::byte* source, DataType dtype) {
  switch (dtype) {
    case DataType::float16: return decode_half(load<std::uint16_t>(source), kFloat16);
    case DataType::bfloat16: return decode_half(load<std::uint16_t>(source), kBFloat16);
    case DataType::float32: return load<float>(source);
    default: return load<double>(source);
  }
}

double unit_in_the_last_place(double value, DataType dtype) {
  const int mantissa_bits = dtype == DataType::float16    ? kFloat16.mantissa_bits
                            : dtype == DataType::bfloat16 ? kBFloat16.mantissa_bits
                            : dtype == DataType::float32  ? 23
                                                          : 52;
  return std::ldexp(1, std::ilogb(std::max(std::abs(value), 1e-30)) - mantissa_bits);
}

// Of floating types only. Written so that a NaN is far.
bool is_near(const std::byte* given, const std::byte* wanted, DataType dtype, double ulps) {
  const double target = decode_floating(wanted, dtype);
  return std::abs(decode_floating(given, dtype) - target) <= ulps * unit_in_the_last_place(target, dtype);
}

}  // namespace

bool is_right(const std::byte* element, DataType dtype, double wanted, double ulps) {
  std::array<std::byte, 8> right{};
  encode(right.data(), dtype, wanted);
  if (std::memcmp(element, right.data(), size_of(dtype)) == 0) return true;
  return is_floating(dtype) && is_near(element, right.data(), dtype, ulps);
}

double input_value(ReduceOp op, int rank, std::uint64_t position, std::uint64_t salt) {
  Random random(position % kPeriod + 1000 * static_cast<std::uint64_t>(rank) + 1'000'000'000 * salt);
  if (op != ReduceOp::product) return static_cast<double>(random.below(kValues));
  return rank < kRanksWithFactors ? static_cast<double>(1 + random.below(2)) : 1;
}

double reduced_value(ReduceOp op, int ranks, std::uint64_t position, std::uint64_t salt) {
  double result = input_value(op, 0, position, salt);
  for (int rank = 1; rank < ranks; ++rank) {
    const double value = input_value(op, rank, position, salt);
    switch (op) {
      case ReduceOp::sum:
      case ReduceOp::average: result += value; break;
      case ReduceOp::min: result = std::min(result, value); break;
      case ReduceOp::max: result = std::max(result, value); break;
      case ReduceOp::product: result *= value; break;
    }
  }
  return op == ReduceOp::average ? result / ranks : result;
}

void Pattern::set(std::uint64_t position, double value) {
  encode(bytes_.data() + position * size_of(dtype_), dtype_, value);
}

void Pattern::fill(std::span<std::byte> target) const {
  const std::size_t period_bytes = kPeriod * size_of(dtype_);
  for (std::size_t begin = 0; begin < target.size(); begin += period_bytes) {
    std::memcpy(target.data() + begin, bytes_.data(), std::min(period_bytes, target.size() - begin));
  }
}

std::uint64_t Pattern::count_wrong(std::span<const std::byte> result, double ulps) const {
  const std::size_t width = size_of(dtype_);
  const std::size_t period_bytes = kPeriod * width;
  std::uint64_t wrong = 0;
  for (std::size_t begin = 0; begin < result.size(); begin += period_bytes) {
    const std::size_t length = std::min(period_bytes, result.size() - begin);
    const std::byte* block = result.data() + begin;
    if (std::memcmp(block, bytes_.data(), length) == 0) continue;
    for (std::size_t at = 0; at < length; at += width) {
      if (std::memcmp(block + at, bytes_.data() + at, width) == 0) continue;
      if (!is_floating(dtype_) || !is_near(block + at, bytes_.data() + at, dtype_, ulps)) ++wrong;
    }
  }
  return wrong;
}

double tolerance_ulps(ReduceOp op) {
  return op == ReduceOp::average ? 1 : 0;
}

}  // namespace hora::perf
