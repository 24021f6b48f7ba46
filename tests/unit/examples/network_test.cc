#include "network.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "digits.h"

namespace digits {
namespace {

TEST_CASE("gradients agree with finite differences") {
  Network network({3, 5, 4, 2}, 11);
  const std::vector<float> inputs = {0.1F, -0.4F, 0.9F, 0.7F, 0.2F, -0.3F};
  const std::vector<std::uint8_t> labels = {1, 0};
  const auto ignore = [](Parameter&) {};
  for (Parameter& parameter : network.parameters())  // away from the kinks of the ReLU, where no derivative exists
    if (parameter.name.ends_with("bias")) std::ranges::fill(parameter.value, 0.3F);
  network.forward_backward(inputs, labels, ignore);
  std::vector<std::vector<float>> gradients;
  for (const Parameter& parameter : network.parameters()) gradients.push_back(parameter.gradient);
  constexpr float kStep = 1e-3F;
  for (std::size_t p = 0; p < gradients.size(); ++p) {
    for (std::size_t i = 0; i < gradients[p].size(); ++i) {
      float& value = network.parameters()[p].value[i];
      const float kept = value;
      value = kept + kStep;
      const float above = network.forward_backward(inputs, labels, ignore);
      value = kept - kStep;
      const float below = network.forward_backward(inputs, labels, ignore);
      value = kept;
      CHECK((above - below) / (2 * kStep) == Approx(gradients[p][i]).margin(2e-3));
    }
  }
}

TEST_CASE("gradients are handed out from the last layer to the first, each once") {
  Network network({2, 3, 2}, 1);
  std::vector<std::string> names;
  network.forward_backward(std::vector<float>{1, 2}, std::vector<std::uint8_t>{0},
                           [&](Parameter& parameter) { names.push_back(parameter.name); });
  CHECK(names == std::vector<std::string>{"layer1.weight", "layer1.bias", "layer0.weight", "layer0.bias"});
}

TEST_CASE("the hash tells one changed bit") {
  Network network({2, 3, 2}, 1);
  const std::uint64_t before = network.hash();
  CHECK(Network({2, 3, 2}, 1).hash() == before);
  CHECK(Network({2, 3, 2}, 2).hash() != before);
  float& value = network.parameters()[2].value[0];
  value = std::nextafter(value, 1.0F);
  CHECK(network.hash() != before);
}

TEST_CASE("the mean of the shards' gradients is the gradient of the batch") {
  const Split data = split(load(DIGITS_CSV), 1);
  const auto ignore = [](Parameter&) {};
  const auto gradient = [&](int rank, int size) {
    Network network({kPixels, 16, kClasses}, 3);
    BatchOrder order(data.train.count(), 240, 7);
    std::vector<float> inputs;
    std::vector<std::uint8_t> labels;
    for (const std::uint32_t index : order.shard(5, rank, size)) {
      const auto image = data.train.image(index);
      inputs.insert(inputs.end(), image.begin(), image.end());
      labels.push_back(data.train.labels[index]);
    }
    network.forward_backward(inputs, labels, ignore);
    return network.parameters()[0].gradient;
  };
  const std::vector<float> whole = gradient(0, 1);
  std::vector<float> mean(whole.size());
  for (int rank = 0; rank < 3; ++rank) {
    const std::vector<float> part = gradient(rank, 3);
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] += part[i] / 3;
  }
  for (std::size_t i = 0; i < mean.size(); ++i) REQUIRE(mean[i] == Approx(whole[i]).margin(1e-6));
}

TEST_CASE("one process learns the digits") {
  const Split data = split(load(DIGITS_CSV), 1);
  Network network({kPixels, 64, 32, kClasses}, 1);
  BatchOrder order(data.train.count(), 120, 7);
  for (std::size_t step = 1; step <= 400; ++step) {
    std::vector<float> inputs;
    std::vector<std::uint8_t> labels;
    for (const std::uint32_t index : order.shard(step, 0, 1)) {
      const auto image = data.train.image(index);
      inputs.insert(inputs.end(), image.begin(), image.end());
      labels.push_back(data.train.labels[index]);
    }
    network.forward_backward(inputs, labels, [](Parameter&) {});
    network.descend(0.05F, 0.9F, 0.001F);
  }
  CHECK(network.accuracy(data.test.pixels, data.test.labels) >= 0.95);
}

}  // namespace
}  // namespace digits
