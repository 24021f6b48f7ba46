// The compiled kernels, as they lie in the library.
#pragma once

#include <cstddef>
#include <span>

namespace hora::cuda {

// A fat binary for the driver; empty where hora was built without a CUDA toolkit.
std::span<const std::byte> kernel_image();

}  // namespace hora::cuda
