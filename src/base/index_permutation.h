// A seeded permutation of 0 .. count - 1 that is computed, not stored: any index at any time, in constant memory.
//
// Method: a Feistel network over the smallest even number of bits that holds all indices, walked again until the result
// is one of them (J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002). The round function is
// the finalizer of splitmix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
// 2014): well mixed, not secret.
#pragma once

#include <array>
#include <cstdint>

namespace hora {

class IndexPermutation {
 public:
  // `count` at least 1 and at most 2^62. The same arguments give the same permutation everywhere.
  IndexPermutation(std::uint64_t count, std::uint64_t seed) noexcept;

  // Precondition: index < count. Less than four rounds through the network on average.
  [[nodiscard]] std::uint64_t operator()(std::uint64_t index) const noexcept;

 private:
  [[nodiscard]] std::uint64_t encrypt(std::uint64_t block) const noexcept;

  std::uint64_t count_;
  unsigned half_bits_;
  std::array<std::uint64_t, 8> keys_;
};

}  // namespace hora
