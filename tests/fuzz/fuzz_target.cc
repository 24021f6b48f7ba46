// libFuzzer's entry: no input may crash a decoder, nor change when it is decoded and encoded again.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "decoders.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (hora::fuzz::decode_tagged(std::as_bytes(std::span(data, size))) == hora::fuzz::Verdict::altered) std::abort();
  return 0;
}
