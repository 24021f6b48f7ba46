// SHA-256 (FIPS 180-4) and HMAC (RFC 2104) over it: what control connections prove their shared secret with.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace hora {

using Digest = std::array<std::byte, 32>;

class Sha256 {
 public:
  void update(std::span<const std::byte> data) noexcept;
  void update(std::string_view text) noexcept { update(std::as_bytes(std::span(text))); }
  // The digest of all that was given; the object is used up.
  Digest finish() noexcept;

 private:
  void block(const std::byte* data) noexcept;

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};
  std::uint64_t bytes_ = 0;
};

Digest sha256(std::span<const std::byte> data) noexcept;
Digest hmac_sha256(std::string_view key, std::span<const std::byte> data) noexcept;

// Takes the same time wherever the two differ.
bool equal_in_constant_time(std::span<const std::byte> a, std::span<const std::byte> b) noexcept;

}  // namespace hora
