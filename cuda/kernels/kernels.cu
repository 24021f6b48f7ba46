// The entry points of hora's kernels: hora_copy_in_FORM(pieces, stage) and
// hora_copy_out_FORM(pieces, stage, divisor, decision). Loaded by name through the driver.
#include "cuda/kernels/bodies.h"

namespace {

__device__ std::uint64_t thread_number() {
  return static_cast<std::uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ std::uint64_t thread_count() {
  return static_cast<std::uint64_t>(gridDim.x) * blockDim.x;
}

// One thread asks for its block: blocks need not run at the same time, so they must not wait for each other.
__device__ bool decided_for_block(const hora::cuda::Decision& decision) {
  __shared__ bool done;
  if (threadIdx.x == 0) done = hora::cuda::decide(decision);
  __syncthreads();
  return done;
}

}  // namespace

#define HORA_KERNELS(form, Element, Stage, divides)                                                                    \
  extern "C" __global__ void hora_copy_in_##form(const __grid_constant__ hora::cuda::Pieces pieces, Stage* stage) {    \
    hora::cuda::copy_in<Element>(pieces, stage, thread_number(), thread_count());                                      \
  }                                                                                                                    \
  extern "C" __global__ void hora_copy_out_##form(const __grid_constant__ hora::cuda::Pieces pieces,                   \
                                                  const Stage* stage, double divisor, hora::cuda::Decision decision) { \
    if (!decided_for_block(decision)) return;                                                                          \
    hora::cuda::copy_out<Element, Stage, divides>(pieces, stage, static_cast<Stage>(divisor), thread_number(),         \
                                                  thread_count());                                                     \
  }

HORA_FORMS(HORA_KERNELS)
