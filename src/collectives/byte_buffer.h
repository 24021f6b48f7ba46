// Memory that is kept: growing is the only thing that costs, and nothing is ever cleared.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace hora::collectives {

class ByteBuffer {
 public:
  // Contents are undefined where it grew, kept else.
  void resize(std::size_t bytes) {
    if (bytes > capacity_) {
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
