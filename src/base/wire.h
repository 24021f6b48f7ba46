// Bounds-checked little-endian codec of everything that leaves a process.
//
// Integers are fixed width; strings and byte blocks carry a 32-bit length. A Reader that runs past its end, or meets a
// value the caller refuses, fails once and for all: every later read gives zero or empty, so decoders check ok() once,
// at the end, and never index with a value read before that check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hora::wire {

using Bytes = std::vector<std::byte>;

class Writer {
 public:
  void u8(std::uint8_t value) { integer(value, 1); }
  void u16(std::uint16_t value) { integer(value, 2); }
  void u32(std::uint32_t value) { integer(value, 4); }
  void u64(std::uint64_t value) { integer(value, 8); }
  void boolean(bool value) { u8(value ? 1 : 0); }
  // At most 4 GiB - 1.
  void bytes(std::span<const std::byte> block);
  void string(std::string_view text) { bytes(std::as_bytes(std::span(text))); }

  [[nodiscard]] std::span<const std::byte> view() const noexcept { return buffer_; }
  // The bytes written so far; the writer is empty afterwards.
  Bytes take() noexcept { return std::move(buffer_); }

 private:
  void integer(std::uint64_t value, int width);
  Bytes buffer_;
};

// Reads from borrowed bytes.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> data) noexcept : data_(data) {}

  std::uint8_t u8() noexcept { return static_cast<std::uint8_t>(integer(1)); }
  std::uint16_t u16() noexcept { return static_cast<std::uint16_t>(integer(2)); }
  std::uint32_t u32() noexcept { return static_cast<std::uint32_t>(integer(4)); }
  std::uint64_t u64() noexcept { return integer(8); }
  bool boolean() noexcept { return below(2) != 0; }
  // A byte that must be less than `limit`: enumerators.
  std::uint8_t below(std::uint8_t limit) noexcept;
  // Number of items that follow, each at least `item_bytes_min` long: never more than the remaining bytes can hold, so
  // it is safe to reserve.
  std::uint32_t count(std::size_t item_bytes_min) noexcept;
  // Borrows from the data given to the constructor.
  std::span<const std::byte> bytes() noexcept;
  std::string string();

  void fail() noexcept { failed_ = true; }
  [[nodiscard]] bool ok() const noexcept { return !failed_; }
  // Everything was read and nothing is left over.
  [[nodiscard]] bool finished() const noexcept { return ok() && data_.empty(); }

 private:
  std::uint64_t integer(int width) noexcept;
  std::span<const std::byte> data_;
  bool failed_ = false;
};

}  // namespace hora::wire
