#include "base/index_permutation.h"

#include <algorithm>
#include <bit>

#include "base/random.h"

namespace hora {

IndexPermutation::IndexPermutation(std::uint64_t count, std::uint64_t seed) noexcept
    : count_(count), half_bits_(std::max(1U, (static_cast<unsigned>(std::bit_width(count - 1)) + 1) / 2)) {
  Random random(seed);
  for (std::uint64_t& key : keys_) key = random.next();
}

std::uint64_t IndexPermutation::encrypt(std::uint64_t block) const noexcept {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = block >> half_bits_, right = block & mask;
  for (const std::uint64_t key : keys_) {
    const std::uint64_t mixed = left ^ (Random(key ^ right).next() & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

std::uint64_t IndexPermutation::operator()(std::uint64_t index) const noexcept {
  // The network permutes the larger domain, so from an index below count_ its cycle leads back to one.
  do index = encrypt(index);
  while (index >= count_);
  return index;
}

}  // namespace hora
