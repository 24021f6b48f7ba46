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
    elastic::encode(out, introduction->self);
  } else {
    out.u8(static_cast<std::uint8_t>(Kind::welcome));
    elastic::encode(out, std::get<Welcome>(message).view);
  }
  return out.take();
}

std::optional<JoinMessage> decode_join_message(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  const auto kind = static_cast<Kind>(in.below(2));
  JoinMessage message;
  if (kind == Kind::introduction)
    message = Introduction{elastic::decode_member(in)};
  else
    message = Welcome{elastic::decode_view(in)};
  if (!in.finished()) return std::nullopt;
  return message;
}

}  // namespace hora::engine
