#include "base/wire.h"

namespace hora::wire {

void Writer::integer(std::uint64_t value, int width) {
  for (int i = 0; i < width; ++i) buffer_.push_back(static_cast<std::byte>(value >> (8 * i) & 0xff));
}

void Writer::bytes(std::span<const std::byte> block) {
  u32(static_cast<std::uint32_t>(block.size()));
  buffer_.insert(buffer_.end(), block.begin(), block.end());
}

std::uint64_t Reader::integer(int width) noexcept {
  const auto size = static_cast<std::size_t>(width);
  if (failed_ || data_.size() < size) return fail(), 0;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint64_t>(data_[i]) << (8 * i);
  data_ = data_.subspan(size);
  return value;
}

std::uint8_t Reader::below(std::uint8_t limit) noexcept {
  const std::uint8_t value = u8();
  if (value >= limit) return fail(), std::uint8_t{0};
  return value;
}

std::uint32_t Reader::count(std::size_t item_bytes_min) noexcept {
  const std::uint32_t items = u32();
  if (failed_ || items * static_cast<std::uint64_t>(item_bytes_min) > data_.size()) return fail(), 0;
  return items;
}

std::span<const std::byte> Reader::bytes() noexcept {
  const std::uint32_t size = u32();
  if (failed_ || data_.size() < size) return fail(), std::span<const std::byte>();
  const auto block = data_.first(size);
  data_ = data_.subspan(size);
  return block;
}

std::string Reader::string() {
  const auto block = bytes();
  return {reinterpret_cast<const char*>(block.data()), block.size()};
}

}  // namespace hora::wire
