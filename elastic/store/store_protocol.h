// The store's messages, one request and one reply at a time on each connection.
//
// A request that cannot be answered yet (wait) is answered later; meanwhile its connection says nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "base/wire.h"
#include "hora/status.hpp"

namespace hora::store {

inline constexpr std::size_t kKeyBytesMax = 1024;
inline constexpr std::size_t kValueBytesMax = std::size_t{1} << 20;

enum class Operation : std::uint8_t { set, get, wait, compare_and_swap, add, limit };

struct Request {
  Operation operation = Operation::get;
  std::string key;
  std::string value;                    // set, compare_and_swap: what is to be stored
  std::optional<std::string> expected;  // compare_and_swap
  std::int64_t amount = 0;              // add
};

struct Reply {
  Status status;
  std::optional<std::string> value;  // get, wait
  bool swapped = false;              // compare_and_swap
  std::int64_t sum = 0;              // add
};

wire::Bytes encode(const Request& request);
wire::Bytes encode(const Reply& reply);
// StatusCode::invalid_argument for anything malformed or beyond the limits.
Result<Request> decode_request(std::span<const std::byte> frame);
Result<Reply> decode_reply(std::span<const std::byte> frame);

}  // namespace hora::store
