// The kernels of each variant; each lives in a file that is compiled for its processors.
#pragma once

#include "collectives/reduce_kernels.h"

namespace hora::collectives {

ReduceKernel generic_reduce_kernel(DataType dtype, ReduceOp op) noexcept;
ReduceKernel avx2_reduce_kernel(DataType dtype, ReduceOp op) noexcept;
ReduceKernel avx512_reduce_kernel(DataType dtype, ReduceOp op) noexcept;

}  // namespace hora::collectives
