// A small fully connected network for classification: ReLU between layers, softmax and cross-entropy at the end, with
// its own forward and backward pass and stochastic gradient descent with momentum. Deterministic: no threads, fixed
// order of sums.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace digits {

// One trained array and its gradient, under the name that all ranks know it by.
struct Parameter {
  std::string name;
  std::vector<float> value;
  std::vector<float> gradient;
  std::vector<float> velocity;
};

class Network {
 public:
  // `widths`: inputs, hidden layers, classes; e.g. {64, 64, 32, 10}. Weights are drawn from `seed` (He's method).
  Network(std::vector<std::size_t> widths, std::uint32_t seed);

  // Two for each layer: "layer0.weight" (inputs x outputs, row by row), "layer0.bias", "layer1.weight", ...
  [[nodiscard]] std::span<Parameter> parameters() { return parameters_; }

  // Mean cross-entropy of `labels.size()` samples, whose inputs lie one after another in `inputs`. Fills the
  // gradients with those of this mean; `ready` is called for each parameter as soon as its gradient is final, the last
  // layer first. Precondition: at least one sample.
  float forward_backward(std::span<const float> inputs, std::span<const std::uint8_t> labels,
                         const std::function<void(Parameter&)>& ready);

  // value -= rate * velocity, with velocity = momentum * velocity + gradient + decay * value.
  void descend(float rate, float momentum, float decay);

  // Share of the samples whose greatest output is their label.
  [[nodiscard]] double accuracy(std::span<const float> inputs, std::span<const std::uint8_t> labels);

  // FNV-1a over the bits of all values, in order: equal on ranks that hold the same bits.
  [[nodiscard]] std::uint64_t hash() const;

 private:
  [[nodiscard]] std::size_t layers() const { return widths_.size() - 1; }
  Parameter& weight(std::size_t layer) { return parameters_[2 * layer]; }
  Parameter& bias(std::size_t layer) { return parameters_[2 * layer + 1]; }
  // Leaves the outputs of layer i in activations_[i + 1]; those of the last one are not yet a softmax.
  void forward(std::span<const float> inputs, std::size_t samples);
  // Turns the last activations into d(mean loss)/d(output) and returns the mean loss.
  float softmax_loss(std::span<const std::uint8_t> labels);
  // From `delta_`, d(loss)/d(outputs of `layer`), makes the layer's gradients.
  void layer_gradients(std::size_t layer, std::size_t samples);
  // Replaces delta_ by that of the layer below.
  void backward_through(std::size_t layer, std::size_t samples);

  std::vector<std::size_t> widths_;
  std::vector<Parameter> parameters_;
  std::vector<std::vector<float>> activations_;
  std::vector<float> delta_;
};

}  // namespace digits
