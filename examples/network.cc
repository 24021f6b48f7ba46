#include "network.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace digits {
namespace {

Parameter make_parameter(std::string name, std::size_t count) {
  return {std::move(name), std::vector<float>(count), std::vector<float>(count), std::vector<float>(count)};
}

// Uniform in [-1, 1), from the top 24 bits: the same on every machine, unlike the standard distributions.
float signed_unit(std::mt19937& random) {
  return static_cast<float>(random() >> 8U) / static_cast<float>(1U << 23U) - 1.0F;
}

// outputs += factor * row
void add_scaled(std::span<float> outputs, std::span<const float> row, float factor) {
  for (std::size_t j = 0; j < outputs.size(); ++j) outputs[j] += factor * row[j];
}

}  // namespace

Network::Network(std::vector<std::size_t> widths, std::uint32_t seed)
    : widths_(std::move(widths)), activations_(widths_.size()) {
  std::mt19937 random(seed);
  for (std::size_t layer = 0; layer < layers(); ++layer) {
    const std::string name = "layer" + std::to_string(layer);
    parameters_.push_back(make_parameter(name + ".weight", widths_[layer] * widths_[layer + 1]));
    parameters_.push_back(make_parameter(name + ".bias", widths_[layer + 1]));
    const float bound = std::sqrt(6.0F / static_cast<float>(widths_[layer]));
    for (float& value : weight(layer).value) value = bound * signed_unit(random);
  }
}

void Network::forward(std::span<const float> inputs, std::size_t samples) {
  activations_[0].assign(inputs.begin(), inputs.end());
  for (std::size_t layer = 0; layer < layers(); ++layer) {
    const std::size_t in = widths_[layer];
    const std::size_t out = widths_[layer + 1];
    const bool hidden = layer + 1 < layers();
    activations_[layer + 1].resize(samples * out);
    for (std::size_t s = 0; s < samples; ++s) {
      const std::span<float> outputs = std::span(activations_[layer + 1]).subspan(s * out, out);
      std::ranges::copy(bias(layer).value, outputs.begin());
      for (std::size_t i = 0; i < in; ++i)
        add_scaled(outputs, std::span(weight(layer).value).subspan(i * out, out), activations_[layer][s * in + i]);
      if (hidden)
        for (float& value : outputs) value = std::max(value, 0.0F);
    }
  }
}

float Network::softmax_loss(std::span<const std::uint8_t> labels) {
  const std::size_t classes = widths_.back();
  const std::size_t samples = labels.size();
  delta_ = activations_.back();
  double loss = 0;
  for (std::size_t s = 0; s < samples; ++s) {
    const std::span<float> row = std::span(delta_).subspan(s * classes, classes);
    const float greatest = *std::ranges::max_element(row);
    float sum = 0;
    for (float& value : row) sum += value = std::exp(value - greatest);
    for (float& value : row) value /= sum;
    loss -= std::log(std::max(row[labels[s]], 1e-12F));
    row[labels[s]] -= 1.0F;
    for (float& value : row) value /= static_cast<float>(samples);
  }
  return static_cast<float>(loss / static_cast<double>(samples));
}

void Network::layer_gradients(std::size_t layer, std::size_t samples) {
  const std::size_t in = widths_[layer];
  const std::size_t out = widths_[layer + 1];
  std::ranges::fill(weight(layer).gradient, 0.0F);
  std::ranges::fill(bias(layer).gradient, 0.0F);
  for (std::size_t s = 0; s < samples; ++s) {
    const std::span<const float> delta = std::span(delta_).subspan(s * out, out);
    add_scaled(bias(layer).gradient, delta, 1.0F);
    for (std::size_t i = 0; i < in; ++i)
      add_scaled(std::span(weight(layer).gradient).subspan(i * out, out), delta, activations_[layer][s * in + i]);
  }
}

void Network::backward_through(std::size_t layer, std::size_t samples) {
  const std::size_t in = widths_[layer];
  const std::size_t out = widths_[layer + 1];
  std::vector<float> below(samples * in);
  for (std::size_t s = 0; s < samples; ++s) {
    for (std::size_t i = 0; i < in; ++i) {
      if (activations_[layer][s * in + i] <= 0) continue;  // the ReLU below passed nothing
      float sum = 0;
      for (std::size_t j = 0; j < out; ++j) sum += weight(layer).value[i * out + j] * delta_[s * out + j];
      below[s * in + i] = sum;
    }
  }
  delta_ = std::move(below);
}

float Network::forward_backward(std::span<const float> inputs, std::span<const std::uint8_t> labels,
                                const std::function<void(Parameter&)>& ready) {
  const std::size_t samples = labels.size();
  forward(inputs, samples);
  const float loss = softmax_loss(labels);
  for (std::size_t layer = layers(); layer-- > 0;) {
    layer_gradients(layer, samples);
    ready(weight(layer));
    ready(bias(layer));
    if (layer > 0) backward_through(layer, samples);
  }
  return loss;
}

void Network::descend(float rate, float momentum, float decay) {
  for (Parameter& parameter : parameters_) {
    for (std::size_t i = 0; i < parameter.value.size(); ++i) {
      parameter.velocity[i] = momentum * parameter.velocity[i] + parameter.gradient[i] + decay * parameter.value[i];
      parameter.value[i] -= rate * parameter.velocity[i];
    }
  }
}

double Network::accuracy(std::span<const float> inputs, std::span<const std::uint8_t> labels) {
  forward(inputs, labels.size());
  const std::size_t classes = widths_.back();
  std::size_t right = 0;
  for (std::size_t s = 0; s < labels.size(); ++s) {
    const auto row = std::span<const float>(activations_.back()).subspan(s * classes, classes);
    right += std::ranges::max_element(row) - row.begin() == labels[s] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(labels.size());
}

std::uint64_t Network::hash() const {
  std::uint64_t hash = 0xcbf29ce484222325U;
  for (const Parameter& parameter : parameters_) {
    for (const float value : parameter.value) {
      hash ^= std::bit_cast<std::uint32_t>(value);
      hash *= 0x100000001b3U;
    }
  }
  return hash;
}

}  // namespace digits
