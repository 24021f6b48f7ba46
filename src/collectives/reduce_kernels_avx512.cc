// The reductions with vectors of 64 bytes.
#include "collectives/reduce_kernels_variants.h"

#define HORA_VECTOR_BYTES 64
#include "collectives/reduce_kernels_body.h"

namespace hora::collectives {

ReduceKernel avx512_reduce_kernel(DataType dtype, ReduceOp op) noexcept {
  return select_kernel(dtype, op);
}

}  // namespace hora::collectives
