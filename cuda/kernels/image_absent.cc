#include "cuda/kernels/image.h"

namespace hora::cuda {

std::span<const std::byte> kernel_image() {
  return {};
}

}  // namespace hora::cuda
