#include "engine/join_messages.h"

#include "elastic/record.h"

namespace hora::engine {

namespace {
enum class Kind : std::uint8_t { introduction, welcome };
}

wire::Bytes encode_join_message(const JoinMessage& message) {
  wire::Writer out;
  if (const auto* introduction = std::get_if<Introduction>(&message)) {
    out.u8(static_cast<std::uint8_t>(Kind::introduction));
    // As a view of one: members have one encoding.
    elastic::encode(out, View{Epoch{1}, {introduction->self}, Decider::members, {}});
  } else {
    out.u8(static_cast<std::uint8_t>(Kind::welcome));
    elastic::encode(out, std::get<Welcome>(message).view);
  }
  return out.take();
}

std::optional<JoinMessage> decode_join_message(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  const auto kind = static_cast<Kind>(in.below(2));
  View view = elastic::decode_view(in);
  if (!in.finished()) return std::nullopt;
  if (kind == Kind::welcome) return Welcome{std::move(view)};
  if (view.size() != 1) return std::nullopt;
  return Introduction{std::move(view.members.front())};
}

}  // namespace hora::engine
