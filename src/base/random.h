// A small seeded generator (splitmix64) whose numbers are the same everywhere; std distributions are not.
#pragma once

#include <cstdint>

namespace hora {

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  // Uniform in [0, limit); limit > 0. The bias of the modulo is below 2^-32 for limits below 2^32.
  std::uint64_t below(std::uint64_t limit) noexcept { return next() % limit; }
  // True with probability numerator / denominator.
  bool chance(std::uint64_t numerator, std::uint64_t denominator) noexcept { return below(denominator) < numerator; }

 private:
  std::uint64_t state_;
};

}  // namespace hora
