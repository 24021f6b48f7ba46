// A frame: one piece of a message, with a header that says which.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "interfaces/pair_transport.h"

namespace hora::tcp {

// So long that its header and its system call are free, so short that the sockets of a channel share a message evenly.
inline constexpr std::uint32_t kFrameBytes = 256 << 10;

// After so many bytes a call returns, though more could be moved: others may want the engine.
inline constexpr std::size_t kCallBytes = 16 * kFrameBytes;

struct FrameHeader {
  Tag tag;
  std::uint64_t offset = 0;  // of the payload in its message
  std::uint32_t length = 0;  // of the payload
  std::uint64_t total = 0;   // length of the message
};

inline constexpr std::size_t kHeaderBytes = 48;
using EncodedHeader = std::array<std::byte, kHeaderBytes>;

void encode(const FrameHeader& header, EncodedHeader& encoded) noexcept;
// Nothing where the payload would not lie inside its message, or is not what a sender cuts.
std::optional<FrameHeader> decode(std::span<const std::byte, kHeaderBytes> encoded) noexcept;

}  // namespace hora::tcp
