// The seam of the rendezvous store: a small linearizable key-value map that members meet at.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "hora/status.hpp"

namespace hora {

// Thread safe. Calls block at most until their deadline; a store that cannot be reached by then is
// StatusCode::timed_out with its address in the message.
class Store {
 public:
  virtual ~Store() = default;
  virtual Status set(std::string_view key, std::string_view value) = 0;
  virtual Result<std::optional<std::string>> get(std::string_view key) = 0;
  // The value of `key`, as soon as it exists. StatusCode::timed_out after `timeout`.
  virtual Result<std::string> wait(std::string_view key, Duration timeout) = 0;
  // Sets `key` to `desired` if its value is `expected` (nullopt: if it does not exist). Returns whether it did.
  virtual Result<bool> compare_and_swap(std::string_view key, std::optional<std::string_view> expected,
                                        std::string_view desired) = 0;
  // Adds `amount` to the decimal number at `key` (absent: 0) and returns the sum.
  virtual Result<std::int64_t> add(std::string_view key, std::int64_t amount) = 0;
};

}  // namespace hora
