# cmake -DFILE=kernels.fatbin -DTO=image.cc -P embed.cmake: the bytes of FILE as hora::cuda::kernel_image().
file(READ ${FILE} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
file(WRITE ${TO} "#include \"cuda/kernels/image.h\"

namespace hora::cuda {

namespace {
alignas(64) constexpr unsigned char kImage[] = {${bytes}};
}

std::span<const std::byte> kernel_image() {
  return std::as_bytes(std::span(kImage));
}

}  // namespace hora::cuda
")
