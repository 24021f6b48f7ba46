// What one rank wants done with a named tensor, and the rule by which requests of different ranks are paired.
//
// The k-th submission of a name is the same operation on every member of a view ("round k"), and it has the same
// outcome everywhere: executed in the same group, or rejected with the same text, also where it is submitted only
// later.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hora/status.hpp"
#include "interfaces/operation.h"

namespace hora::negotiation {

inline constexpr std::size_t kNameBytesMax = 4096;
inline constexpr std::size_t kDimensionsMax = 64;
inline constexpr std::uint64_t kElementsLimit = std::uint64_t{1} << 40;  // as Signature::pack() can hold
inline constexpr std::uint32_t kTensorsMax = 1 << 20;                    // names in one view

// Counts the submissions of one name by one member in one view, from 1.
using Round = std::uint64_t;

struct Request {
  Signature signature;
  std::vector<std::int64_t> shape;  // never empty: {count} where the caller gave none

  Request() = default;
  Request(const Signature& wanted, std::span<const std::int64_t> dimensions);
  // Equal to a request made of the same arguments; allocates nothing.
  [[nodiscard]] bool equals(const Signature& wanted, std::span<const std::int64_t> dimensions) const noexcept;
  [[nodiscard]] std::uint64_t bytes() const noexcept { return signature.count * size_of(signature.dtype); }
  friend bool operator==(const Request&, const Request&) = default;
};

// Name and request are within limits, the shape holds exactly `count` elements, the root is one of `size` ranks.
Status validate(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape, int size);

// "allreduce sum float32 [3,4]", "broadcast from rank 1 int8 [5]", "barrier".
std::string to_string(const Request& request);

}  // namespace hora::negotiation
