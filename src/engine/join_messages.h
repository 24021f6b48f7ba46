// What a newcomer and the members say to each other on a control link before it is a member. docs/protocol.md.
#pragma once

#include <optional>
#include <span>
#include <variant>

#include "base/wire.h"
#include "hora/view.hpp"

namespace hora::engine {

// Newcomer to member: who dialed. The member has the link and what came along with it from now on.
struct Introduction {
  Member self;
};
// Member to newcomer: the answer, and again whenever the view has changed without the newcomer.
struct Welcome {
  View view;
};

using JoinMessage = std::variant<Introduction, Welcome>;

wire::Bytes encode_join_message(const JoinMessage& message);
// nullopt for anything that encode_join_message could not have written.
std::optional<JoinMessage> decode_join_message(std::span<const std::byte> bytes);

}  // namespace hora::engine
