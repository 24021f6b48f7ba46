// Every decoder of bytes that come from another process, for the fuzzer and for the replay of its corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace hora::fuzz {

enum class Verdict : std::uint8_t {
  rejected,
  accepted,  // and encoded again it gives the same bytes
  altered,   // accepted, but encoded again it gives others: two messages that mean the same, or a lost field
};

struct Decoder {
  char tag;  // the first byte of an input says whose it is; never given to another decoder
  const char* name;
  Verdict (*decode)(std::span<const std::byte> message);
};

std::span<const Decoder> decoders();
// The decoder whose tag the first byte is, on the rest; rejected where there is none.
Verdict decode_tagged(std::span<const std::byte> input);

}  // namespace hora::fuzz
