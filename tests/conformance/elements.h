// Elements of every type, as numbers the reference can calculate with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hora/types.hpp"

namespace hora::conformance {

// Exact for the integer types.
using Integer = __int128;

Integer load_integer(DataType type, const std::byte* from);
void store_integer(DataType type, std::byte* to, Integer value);
// `value` must be representable.
double load_floating(DataType type, const std::byte* from);
void store_floating(DataType type, std::byte* to, double value);

// Distance from 1 to the next number: 2 to the minus digits of the mantissa.
double epsilon(DataType type);

}  // namespace hora::conformance
