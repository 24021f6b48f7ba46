// What a kernel of hora is told: which pieces of the caller's memory make up a stage, and how its copy-out is decided.
// Plain values, passed as kernel parameters.
#pragma once

#include <cstdint>

namespace hora::cuda {

// Tensors of one fused operation. Within the 4 KiB of parameters that every device takes.
inline constexpr std::uint32_t kPiecesMost = 128;

struct Pieces {
  std::uint64_t memory[kPiecesMost];     // addresses on the device
  std::uint64_t begin[kPiecesMost + 1];  // the element of the stage with which each begins; begin[count]: their total
  std::uint32_t count;
};

// The compare-and-swap of protocol law 3: the first block of a copy-out that comes here takes `word` from `held` to
// `done`, or, where the host has raised `abort` before, to `frozen`; all blocks go by what it says then. `abort` is
// raised before the communicator is aborted, so whatever an aborted reduction left in the stage is never copied out.
struct Decision {
  std::uint32_t* word;         // on the device
  const std::uint32_t* abort;  // in pinned memory of the host; not 0: raised
  std::uint32_t held;
  std::uint32_t done;
  std::uint32_t frozen;
};

// How elements lie in memory and in the stage. Half types are staged as float32, so that every partial sum is rounded
// once only, at copy-out, as on the host; NCCL has no int16, so it is staged as int32.
enum class Form : std::uint8_t {
  copy1,  // the same bytes in both, of elements of 1, 2, 4, 8 bytes
  copy2,
  copy4,
  copy8,
  float16,
  bfloat16,
  int16,
  float32,  // copy-out divides; the same bytes otherwise
  float64,
};
inline constexpr int kFormCount = 9;

}  // namespace hora::cuda
