// The UCI optical digits: 1,797 images of 8 x 8 pixels, read from CSV and split into a training and a test part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <random>
#include <span>
#include <vector>

namespace digits {

inline constexpr std::size_t kPixels = 64;
inline constexpr std::size_t kClasses = 10;

struct Set {
  std::vector<float> pixels;         // kPixels for each image, from 0 to 1
  std::vector<std::uint8_t> labels;  // 0 to 9

  [[nodiscard]] std::size_t count() const { return labels.size(); }
  [[nodiscard]] std::span<const float> image(std::size_t index) const {
    return std::span(pixels).subspan(index * kPixels, kPixels);
  }
  void append(std::span<const float> image, std::uint8_t label);
};

struct Split {
  Set train;
  Set test;
};

// Throws std::runtime_error naming the file and the line that cannot be read.
Set load(const std::filesystem::path& csv);

// One image in five, chosen by `seed`, is for the test. The same seed gives the same split on every machine.
Split split(const Set& all, std::uint32_t seed);

// A permutation of 0 .. count - 1 (Fisher-Yates over mt19937, whose numbers the standard fixes).
std::vector<std::uint32_t> permutation(std::size_t count, std::mt19937& random);

// The images that step `step` (from 1) uses in the whole job: `batch` of `count`, each epoch in a new order. Rank r of
// n takes every n-th of them from r on, so that a ring of another size shares out the same batch.
class BatchOrder {
 public:
  BatchOrder(std::size_t count, std::size_t batch, std::uint32_t seed);
  // Calls in any order of steps are right; in rising order they are quick.
  [[nodiscard]] std::vector<std::uint32_t> shard(std::size_t step, int rank, int size);

 private:
  std::uint32_t at(std::size_t position);

  std::size_t count_;
  std::size_t batch_;
  std::uint32_t seed_;
  std::size_t epoch_ = 0;
  std::vector<std::uint32_t> order_;
};

}  // namespace digits
