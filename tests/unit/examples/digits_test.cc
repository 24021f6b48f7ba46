#include "digits.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

namespace digits {
namespace {

TEST_CASE("the data holds 1797 images of ten digits") {
  const Set all = load(DIGITS_CSV);
  REQUIRE(all.count() == 1797);
  for (std::uint8_t digit = 0; digit < kClasses; ++digit) CHECK(std::ranges::count(all.labels, digit) > 170);
  const auto [least, greatest] = std::ranges::minmax(all.pixels);
  CHECK(least == 0.0F);
  CHECK(greatest == 1.0F);
}

TEST_CASE("a line that is not an image is refused by file and line") {
  const auto path = std::filesystem::temp_directory_path() / "hora_digits_test.csv";
  std::ofstream(path) << "1,2,3\n";
  CHECK_THROWS_WITH(load(path), Catch::Contains("hora_digits_test.csv:1"));
  std::filesystem::remove(path);
  CHECK_THROWS_WITH(load(path), Catch::Contains("cannot open"));
}

TEST_CASE("the split shares no image and depends on the seed alone") {
  const Set all = load(DIGITS_CSV);
  const Split first = split(all, 1);
  CHECK(first.test.count() == 360);
  CHECK(first.train.count() + first.test.count() == all.count());
  CHECK(split(all, 1).test.pixels == first.test.pixels);
  CHECK(split(all, 2).test.pixels != first.test.pixels);
}

TEST_CASE("shards of any world size make up the same batch") {
  BatchOrder alone(1437, 240, 7);
  for (const std::size_t step : {1, 2, 6, 7, 500}) {
    std::vector<std::uint32_t> whole = alone.shard(step, 0, 1);
    REQUIRE(whole.size() == 240);
    std::ranges::sort(whole);
    for (const int size : {2, 3, 4, 7}) {
      std::vector<std::uint32_t> together;
      for (int rank = 0; rank < size; ++rank) {
        BatchOrder order(1437, 240, 7);
        const std::vector<std::uint32_t> shard = order.shard(step, rank, size);
        together.insert(together.end(), shard.begin(), shard.end());
      }
      std::ranges::sort(together);
      CHECK(together == whole);
    }
  }
}

TEST_CASE("an epoch uses every image once") {
  constexpr std::size_t kCount = 480;
  BatchOrder order(kCount, 240, 7);
  std::vector<int> used(kCount);
  for (const std::size_t step : {3, 4})
    for (const std::uint32_t image : order.shard(step, 0, 1)) ++used[image];
  CHECK(std::ranges::count(used, 1) == kCount);
}

}  // namespace
}  // namespace digits
