// The messages of the membership protocol and their bytes. docs/protocol.md tells who sends which and when.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <variant>

#include "base/wire.h"
#include "elastic/record.h"
#include "hora/types.hpp"

namespace hora::elastic {

// "I am alive, in this view." Whoever is further replies with Decided. Epoch 0: "I am in no view yet".
struct Heartbeat {
  Epoch epoch;
  friend bool operator==(const Heartbeat&, const Heartbeat&) = default;
};

// Asks for a promise to accept no decision about the successor of `epoch` under a lower ballot.
struct Prepare {
  Epoch epoch;
  Ballot ballot;
  friend bool operator==(const Prepare&, const Prepare&) = default;
};

// The sender is frozen; `report` is the exact state of its data plane and cannot change before the next install.
struct Promise {
  Epoch epoch;
  Ballot ballot;
  wire::Bytes report;
  std::optional<Acceptance> accepted;
  friend bool operator==(const Promise&, const Promise&) = default;
};

struct Accept {
  Epoch epoch;
  Acceptance proposal;
  friend bool operator==(const Accept&, const Accept&) = default;
};

struct Accepted {
  Epoch epoch;
  Ballot ballot;
  friend bool operator==(const Accepted&, const Accepted&) = default;
};

// The sender has promised `promised`, which is higher than what it was asked for.
struct Refuse {
  Epoch epoch;
  Ballot promised;
  friend bool operator==(const Refuse&, const Refuse&) = default;
};

// Decided: the view of epoch decision.next.epoch - 1 ends.
struct Decided {
  Decision decision;
  friend bool operator==(const Decided&, const Decided&) = default;
};

// The sender wants a view without itself.
struct Leave {
  Epoch epoch;
  friend bool operator==(const Leave&, const Leave&) = default;
};

// Certain death, told by a member that can see it to those that cannot: members of other hosts.
struct Died {
  Epoch epoch;
  MemberId member;
  std::optional<wire::Bytes> record;  // its last record, where that could be read
  friend bool operator==(const Died&, const Died&) = default;
};

using Message = std::variant<Heartbeat, Prepare, Promise, Accept, Accepted, Refuse, Decided, Leave, Died>;

wire::Bytes encode_message(const Message& message);
// nullopt for anything that encode_message could not have written.
std::optional<Message> decode_message(std::span<const std::byte> bytes);

// One line for logs and golden traces, e.g. "prepare epoch=1 ballot=1.0".
std::string to_string(const Ballot& ballot);
std::string to_string(const View& view);
std::string to_string(const Message& message);

}  // namespace hora::elastic
