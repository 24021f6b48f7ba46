// The messages of the negotiated front. Those to the coordinator: Announce, Ready. Those from it, always the same to
// every member: Define, Append, Reject, Stall. Each carries the epoch of its view, and binds nobody in another one.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "base/wire.h"
#include "hora/status.hpp"
#include "hora/types.hpp"
#include "interfaces/board.h"
#include "negotiation/request.h"

namespace hora::negotiation {

inline constexpr std::size_t kTextBytesMax = 64 << 10;
inline constexpr std::size_t kReadyItemsMax = 4096;

// "My submission `round` of `name` is this", where it is not what was executed last under that name.
struct Announce {
  std::string name;
  Round round = 0;
  Request request;
  friend bool operator==(const Announce&, const Announce&) = default;
};

// "I have submitted these as they were executed last", where the board cannot say it, or after a long wait, since a
// coordinator does not look at the board for what it has not submitted itself.
struct Ready {
  struct Item {
    TensorId id = 0;
    Round round = 0;
    std::uint64_t waited_ns = 0;
    friend bool operator==(const Item&, const Item&) = default;
  };
  std::vector<Item> items;
  friend bool operator==(const Ready&, const Ready&) = default;
};

// "From now on `id` stands for `name`."
struct Define {
  TensorId id = 0;
  std::string name;
  friend bool operator==(const Define&, const Define&) = default;
};

// "This is the group at `position` of the response log." Only where there is no board.
struct Append {
  std::uint64_t position = 0;
  std::vector<TensorId> group;
  friend bool operator==(const Append&, const Append&) = default;
};

// "No round of `name` up to `round` that has not been executed will be."
struct Reject {
  std::string name;
  Round round = 0;
  StatusCode code = StatusCode::mismatch;  // or timed_out, or resource
  std::string text;
  friend bool operator==(const Reject&, const Reject&) = default;
};

// A warning for every member's log.
struct Stall {
  std::string text;
  friend bool operator==(const Stall&, const Stall&) = default;
};

using Message = std::variant<Announce, Ready, Define, Append, Reject, Stall>;

wire::Bytes encode(Epoch epoch, const Message& message);
// Nothing unless the bytes are exactly one well-formed message of a view of this `epoch` and `size`.
std::optional<Message> decode(std::span<const std::byte> data, Epoch epoch, int size);
// The view that a message belongs to, so that one of a view that is not yet installed can be kept for it.
std::optional<Epoch> epoch_of(std::span<const std::byte> data);

}  // namespace hora::negotiation
