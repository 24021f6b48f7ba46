#include "transports/tcp/frame.h"

#include <algorithm>

#include "interfaces/operation.h"

namespace hora::tcp {
namespace {

constexpr std::uint32_t kFrameMagic = 0x66726f68;  // "horf"

// Like wire::Writer, but into memory that is there already: no allocation for a frame.
class Cursor {
 public:
  explicit Cursor(std::byte* at) noexcept : at_(at) {}
  void put(std::uint64_t value, int width) noexcept {
    for (int i = 0; i < width; ++i) *at_++ = static_cast<std::byte>(value >> (8 * i) & 0xff);
  }

 private:
  std::byte* at_;
};

std::uint64_t take(const std::byte*& at, int width) noexcept {
  std::uint64_t value = 0;
  for (int i = 0; i < width; ++i) value |= static_cast<std::uint64_t>(*at++) << (8 * i);
  return value;
}

}  // namespace

void encode(const FrameHeader& header, EncodedHeader& encoded) noexcept {
  Cursor cursor(encoded.data());
  cursor.put(kFrameMagic, 4);
  cursor.put(header.tag.channel, 4);
  cursor.put(header.tag.epoch.value, 8);
  cursor.put(header.tag.sequence, 8);
  cursor.put(header.tag.step, 4);
  cursor.put(header.length, 4);
  cursor.put(header.offset, 8);
  cursor.put(header.total, 8);
}

std::optional<FrameHeader> decode(std::span<const std::byte, kHeaderBytes> encoded) noexcept {
  const std::byte* at = encoded.data();
  const auto magic = take(at, 4);
  const auto channel = take(at, 4);
  FrameHeader header;
  header.tag.channel = static_cast<std::uint8_t>(channel);
  header.tag.epoch.value = take(at, 8);
  header.tag.sequence = take(at, 8);
  header.tag.step = static_cast<std::uint32_t>(take(at, 4));
  header.length = static_cast<std::uint32_t>(take(at, 4));
  header.offset = take(at, 8);
  header.total = take(at, 8);
  // The last lane is that of what members tell each other on entering a view.
  if (magic != kFrameMagic || channel > kChannelCount) return std::nullopt;
  if (header.offset % kFrameBytes != 0 || header.offset > header.total) return std::nullopt;
  if (header.length != std::min<std::uint64_t>(kFrameBytes, header.total - header.offset)) return std::nullopt;
  if (header.length == 0 && header.total != 0) return std::nullopt;
  return header;
}

}  // namespace hora::tcp
