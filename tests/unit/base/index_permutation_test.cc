#include "base/index_permutation.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <vector>

namespace hora {
namespace {

std::vector<std::uint64_t> order(std::uint64_t count, std::uint64_t seed) {
  const IndexPermutation permutation(count, seed);
  std::vector<std::uint64_t> result;
  for (std::uint64_t index = 0; index < count; ++index) result.push_back(permutation(index));
  return result;
}

TEST_CASE("every index comes once") {
  for (std::uint64_t count = 1; count < 300; ++count) {
    auto indices = order(count, count);
    std::sort(indices.begin(), indices.end());
    std::vector<std::uint64_t> all(count);
    std::iota(all.begin(), all.end(), 0);
    REQUIRE(indices == all);
  }
}

TEST_CASE("seeds give orders of their own, the same ones every time") {
  CHECK(order(1000, 1) == order(1000, 1));
  CHECK(order(1000, 1) != order(1000, 2));
  CHECK_FALSE(std::is_sorted(order(1000, 1).begin(), order(1000, 1).end()));
  // Stored orders must be found again by later versions.
  CHECK(order(8, 7) == std::vector<std::uint64_t>{3, 7, 5, 6, 1, 4, 0, 2});
}

TEST_CASE("large domains need no memory and stay inside") {
  const std::uint64_t count = (std::uint64_t{1} << 62) - 1;
  const IndexPermutation permutation(count, 3);
  CHECK(permutation(0) < count);
  CHECK(permutation(count - 1) < count);
  CHECK(permutation(0) != permutation(1));
}

// Over many seeds each index comes to each place equally often: chi-square with 99 degrees of freedom, whose value
// exceeds 180 once in a million times. The seeds are fixed, so the outcome is too.
TEST_CASE("places are equally likely") {
  constexpr std::uint64_t kCount = 10, kSeeds = 20'000;
  std::vector<double> seen(kCount * kCount);
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const IndexPermutation permutation(kCount, seed);
    for (std::uint64_t index = 0; index < kCount; ++index) ++seen[index * kCount + permutation(index)];
  }
  const double expected = static_cast<double>(kSeeds) / kCount;
  double chi_square = 0;
  for (const double count : seen) chi_square += (count - expected) * (count - expected) / expected;
  CHECK(chi_square < 180);
}

}  // namespace
}  // namespace hora
