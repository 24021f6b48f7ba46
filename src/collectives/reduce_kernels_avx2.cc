// The reductions with vectors of 32 bytes.
#include "collectives/reduce_kernels_variants.h"

#define HORA_VECTOR_BYTES 32
#include "collectives/reduce_kernels_body.h"

namespace hora::collectives {

ReduceKernel avx2_reduce_kernel(DataType dtype, ReduceOp op) noexcept {
  return select_kernel(dtype, op);
}

}  // namespace hora::collectives
