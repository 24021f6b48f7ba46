#include "digits.h"

#include <charconv>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>

namespace digits {
namespace {

constexpr float kPixelMax = 16.0F;
constexpr std::size_t kTestEvery = 5;

// The numbers of one line, without the line's end.
std::vector<int> parse_line(const std::string& line) {
  std::vector<int> numbers;
  const char* at = line.data();
  const char* end = at + line.size();
  while (at < end) {
    int number = 0;
    const auto [next, error] = std::from_chars(at, end, number);
    if (error != std::errc{}) return {};
    numbers.push_back(number);
    if (next == end) break;
    if (*next != ',') return {};
    at = next + 1;
  }
  return numbers;
}

}  // namespace

void Set::append(std::span<const float> image, std::uint8_t label) {
  pixels.insert(pixels.end(), image.begin(), image.end());
  labels.push_back(label);
}

Set load(const std::filesystem::path& csv) {
  std::ifstream file(csv);
  if (!file) throw std::runtime_error("cannot open " + csv.string());
  Set set;
  std::string line;
  for (std::size_t number = 1; std::getline(file, line); ++number) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const std::vector<int> values = parse_line(line);
    if (values.size() != kPixels + 1 || values.back() < 0 || values.back() >= static_cast<int>(kClasses))
      throw std::runtime_error(csv.string() + ":" + std::to_string(number) + ": not 64 pixels and a digit");
    for (std::size_t i = 0; i < kPixels; ++i) set.pixels.push_back(static_cast<float>(values[i]) / kPixelMax);
    set.labels.push_back(static_cast<std::uint8_t>(values.back()));
  }
  if (set.count() == 0) throw std::runtime_error(csv.string() + " is empty");
  return set;
}

std::vector<std::uint32_t> permutation(std::size_t count, std::mt19937& random) {
  std::vector<std::uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0U);
  // std::shuffle may draw differently in another standard library; all ranks and all machines must agree.
  for (std::size_t i = count; i > 1; --i) std::swap(order[i - 1], order[random() % i]);
  return order;
}

Split split(const Set& all, std::uint32_t seed) {
  std::mt19937 random(seed);
  const std::vector<std::uint32_t> order = permutation(all.count(), random);
  Split result;
  for (std::size_t i = 0; i < order.size(); ++i) {
    Set& part = i % kTestEvery == 0 ? result.test : result.train;
    part.append(all.image(order[i]), all.labels[order[i]]);
  }
  return result;
}

BatchOrder::BatchOrder(std::size_t count, std::size_t batch, std::uint32_t seed)
    : count_(count), batch_(batch), seed_(seed) {}

std::uint32_t BatchOrder::at(std::size_t position) {
  const std::size_t epoch = position / count_;
  if (order_.empty() || epoch != epoch_) {
    std::mt19937 random(seed_ + static_cast<std::uint32_t>(epoch));
    order_ = permutation(count_, random);
    epoch_ = epoch;
  }
  return order_[position % count_];
}

std::vector<std::uint32_t> BatchOrder::shard(std::size_t step, int rank, int size) {
  std::vector<std::uint32_t> images;
  for (std::size_t i = static_cast<std::size_t>(rank); i < batch_; i += static_cast<std::size_t>(size))
    images.push_back(at((step - 1) * batch_ + i));
  return images;
}

}  // namespace digits
