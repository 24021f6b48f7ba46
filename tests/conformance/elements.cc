#include "elements.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace hora::conformance {
namespace {

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <typename T>
void store(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// IEEE 754 binary16, normal numbers and zero.
double half_to_double(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

std::uint16_t double_to_half(double value) {
  if (value == 0) return 0;
  int exponent = 0;
  const double fraction = std::frexp(std::abs(value), &exponent);  // in [0.5, 1)
  const auto mantissa = static_cast<std::uint16_t>(std::ldexp(fraction, 11));
  const auto bits = static_cast<std::uint16_t>((exponent + 14) << 10 | (mantissa & 1023));
  return static_cast<std::uint16_t>(value < 0 ? bits | 0x8000 : bits);
}

}  // namespace

Integer load_integer(DataType type, const std::byte* from) {
  switch (type) {
    case DataType::int8: return load<std::int8_t>(from);
    case DataType::int16: return load<std::int16_t>(from);
    case DataType::int32: return load<std::int32_t>(from);
    case DataType::int64: return load<std::int64_t>(from);
    case DataType::uint8: return load<std::uint8_t>(from);
    default: return 0;
  }
}

void store_integer(DataType type, std::byte* to, Integer value) {
  switch (type) {
    case DataType::int8: return store(to, static_cast<std::int8_t>(value));
    case DataType::int16: return store(to, static_cast<std::int16_t>(value));
    case DataType::int32: return store(to, static_cast<std::int32_t>(value));
    case DataType::int64: return store(to, static_cast<std::int64_t>(value));
    case DataType::uint8: return store(to, static_cast<std::uint8_t>(value));
    default: return;
  }
}

double load_floating(DataType type, const std::byte* from) {
  switch (type) {
    case DataType::float16: return half_to_double(load<std::uint16_t>(from));
    case DataType::bfloat16: return std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(from)) << 16);
    case DataType::float32: return load<float>(from);
    case DataType::float64: return load<double>(from);
    default: return 0;
  }
}

void store_floating(DataType type, std::byte* to, double value) {
  switch (type) {
    case DataType::float16: return store(to, double_to_half(value));
    case DataType::bfloat16:
      return store(to, static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16));
    case DataType::float32: return store(to, static_cast<float>(value));
    case DataType::float64: return store(to, value);
    default: return;
  }
}

double epsilon(DataType type) {
  switch (type) {
    case DataType::float16: return std::ldexp(1, -10);
    case DataType::bfloat16: return std::ldexp(1, -7);
    case DataType::float32: return std::ldexp(1, -23);
    case DataType::float64: return std::ldexp(1, -52);
    default: return 0;
  }
}

}  // namespace hora::conformance
