// Memory that is kept: growing is the only thing that costs, and nothing is ever cleared. It is not given back either,
// for the next operation of the size that it grew to would pay again.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace hora::collectives {

class ByteBuffer {
 public:
  // What it held is lost where it must grow: the old memory goes first, so that both are never there at once.
  void resize(std::size_t bytes) {
    if (bytes > capacity_) {
      capacity_ = 0;
      memory_.reset();
      memory_ = std::make_unique_for_overwrite<std::byte[]>(bytes);
      capacity_ = bytes;
    }
    bytes_ = bytes;
  }
  [[nodiscard]] std::byte* data() noexcept { return memory_.get(); }
  [[nodiscard]] const std::byte* data() const noexcept { return memory_.get(); }
  [[nodiscard]] std::span<std::byte> span() noexcept { return {memory_.get(), bytes_}; }
  [[nodiscard]] std::span<const std::byte> span() const noexcept { return {memory_.get(), bytes_}; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t capacity_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace hora::collectives
