// The registered state of an elastic job: the memory that a newcomer needs to take part.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/wire.h"
#include "hora/status.hpp"

namespace hora::engine {

// Not thread safe: the application's thread registers, and crosses step boundaries. The memory stays the caller's.
class StateRegistry {
 public:
  // invalid_argument: the name is taken, or the state was sealed by the first step boundary.
  Status add(std::string_view name, std::span<std::byte> memory);
  void seal() noexcept { sealed_ = true; }
  [[nodiscard]] bool sealed() const noexcept { return sealed_; }

  [[nodiscard]] std::size_t bytes() const noexcept;
  // Names and sizes; travels before the bytes.
  [[nodiscard]] wire::Bytes description() const;
  // Copies everything, in order of the names. `target` holds bytes().
  void copy_to(std::span<std::byte> target) const;
  // The pieces that the bytes of a description equal to this one's fill, in order.
  [[nodiscard]] std::vector<std::span<std::byte>> pieces() const;
  // Ok when `description` is of the same names and sizes; otherwise says what differs.
  [[nodiscard]] Status check(std::span<const std::byte> description) const;

 private:
  std::map<std::string, std::span<std::byte>, std::less<>> entries_;
  bool sealed_ = false;
};

}  // namespace hora::engine
