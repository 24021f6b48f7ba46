// The vocabulary of hora: ranks, members, epochs, element types and operations. Values only.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

#include "hora/export.hpp"

namespace hora {

// Position of a member in a view: dense, 0 to size - 1. Changes only with the view.
struct Rank {
  std::int32_t value = -1;
  friend auto operator<=>(const Rank&, const Rank&) = default;
};

// Most members of a view: a rank has 12 bits where ranks compare their calls.
inline constexpr int kRanksMost = 4096;

// One incarnation of one process in one job. Never reused, not even by a replacement of the same process.
struct MemberId {
  std::uint64_t value = 0;
  friend auto operator<=>(const MemberId&, const MemberId&) = default;
};

// Number of a view in the one chain of views. The founding view is 1; each successor adds one.
struct Epoch {
  std::uint64_t value = 0;
  friend auto operator<=>(const Epoch&, const Epoch&) = default;
};

enum class DataType : std::uint8_t { float16, bfloat16, float32, float64, int8, int16, int32, int64, uint8 };
inline constexpr int kDataTypeCount = 9;

// Average divides by the number of contributors of the view in which the result was made; on integers it is refused.
enum class ReduceOp : std::uint8_t { sum, average, min, max, product };
inline constexpr int kReduceOpCount = 5;

enum class Collective : std::uint8_t { allreduce, broadcast, allgather, barrier };
inline constexpr int kCollectiveCount = 4;

// Bytes of one element.
constexpr std::size_t size_of(DataType type) noexcept {
  switch (type) {
    case DataType::int8:
    case DataType::uint8: return 1;
    case DataType::float16:
    case DataType::bfloat16:
    case DataType::int16: return 2;
    case DataType::float32:
    case DataType::int32: return 4;
    case DataType::float64:
    case DataType::int64: return 8;
  }
  return 0;
}

constexpr bool is_floating(DataType type) noexcept {
  return type == DataType::float16 || type == DataType::bfloat16 || type == DataType::float32 ||
         type == DataType::float64;
}

constexpr bool is_half(DataType type) noexcept {
  return type == DataType::float16 || type == DataType::bfloat16;
}

HORA_EXPORT const char* to_string(DataType type) noexcept;
HORA_EXPORT const char* to_string(ReduceOp op) noexcept;
HORA_EXPORT const char* to_string(Collective kind) noexcept;

}  // namespace hora
