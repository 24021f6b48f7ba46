#include "elastic/messages.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <limits>

namespace hora::elastic {

namespace {

enum class Kind : std::uint8_t { heartbeat, prepare, promise, accept, accepted, refuse, decided, leave, died };
constexpr std::uint8_t kKindCount = 9;

struct Encoder {
  wire::Writer& out;

  void head(Kind kind, Epoch epoch) const {
    out.u8(static_cast<std::uint8_t>(kind));
    out.u64(epoch.value);
  }
  void operator()(const Heartbeat& message) const { head(Kind::heartbeat, message.epoch); }
  void operator()(const Prepare& message) const {
    head(Kind::prepare, message.epoch);
    encode(out, message.ballot);
  }
  void operator()(const Promise& message) const {
    head(Kind::promise, message.epoch);
    encode(out, message.ballot);
    out.bytes(message.report);
    out.boolean(message.accepted.has_value());
    if (message.accepted) encode(out, *message.accepted);
  }
  void operator()(const Accept& message) const {
    head(Kind::accept, message.epoch);
    encode(out, message.proposal);
  }
  void operator()(const Accepted& message) const {
    head(Kind::accepted, message.epoch);
    encode(out, message.ballot);
  }
  void operator()(const Refuse& message) const {
    head(Kind::refuse, message.epoch);
    encode(out, message.promised);
  }
  void operator()(const Decided& message) const {
    head(Kind::decided, Epoch{message.decision.next.epoch.value - 1});
    encode(out, message.decision);
  }
  void operator()(const Leave& message) const { head(Kind::leave, message.epoch); }
  void operator()(const Died& message) const {
    head(Kind::died, message.epoch);
    out.u64(message.member.value);
    out.boolean(message.record.has_value());
    if (message.record) out.bytes(*message.record);
  }
};

wire::Bytes read_block(wire::Reader& in) {
  const std::span<const std::byte> block = in.bytes();
  return {block.begin(), block.end()};
}

// A decision carried by a message about the successor of `epoch` must be about exactly that.
void expect_successor(wire::Reader& in, Epoch epoch, const Decision& decision) {
  if (decision.next.epoch.value - 1 != epoch.value) in.fail();
}

Promise decode_promise(wire::Reader& in, Epoch epoch) {
  Promise message{epoch, decode_ballot(in), read_block(in), std::nullopt};
  if (in.boolean()) {
    message.accepted = decode_acceptance(in);
    expect_successor(in, epoch, message.accepted->decision);
  }
  return message;
}

Message decode_body(wire::Reader& in, Kind kind, Epoch epoch) {
  switch (kind) {
    case Kind::heartbeat: return Heartbeat{epoch};
    case Kind::prepare: return Prepare{epoch, decode_ballot(in)};
    case Kind::promise: return decode_promise(in, epoch);
    case Kind::accept: {
      Accept message{epoch, decode_acceptance(in)};
      expect_successor(in, epoch, message.proposal.decision);
      return message;
    }
    case Kind::accepted: return Accepted{epoch, decode_ballot(in)};
    case Kind::refuse: return Refuse{epoch, decode_ballot(in)};
    case Kind::decided: {
      Decided message{decode_decision(in)};
      expect_successor(in, epoch, message.decision);
      return message;
    }
    case Kind::leave: return Leave{epoch};
    case Kind::died: {
      Died message{epoch, MemberId{in.u64()}, std::nullopt};
      if (in.boolean()) message.record = read_block(in);
      return message;
    }
  }
  in.fail();
  return Heartbeat{epoch};
}

struct Describer {
  std::string operator()(const Heartbeat& message) const {
    return fmt::format("heartbeat epoch={}", message.epoch.value);
  }
  std::string operator()(const Prepare& message) const {
    return fmt::format("prepare epoch={} ballot={}", message.epoch.value, to_string(message.ballot));
  }
  std::string operator()(const Promise& message) const {
    const std::string accepted = message.accepted ? fmt::format("{} {}", to_string(message.accepted->ballot),
                                                                to_string(message.accepted->decision.next))
                                                  : "none";
    return fmt::format("promise epoch={} ballot={} accepted={}", message.epoch.value, to_string(message.ballot),
                       accepted);
  }
  std::string operator()(const Accept& message) const {
    return fmt::format("accept epoch={} ballot={} next={}", message.epoch.value, to_string(message.proposal.ballot),
                       to_string(message.proposal.decision.next));
  }
  std::string operator()(const Accepted& message) const {
    return fmt::format("accepted epoch={} ballot={}", message.epoch.value, to_string(message.ballot));
  }
  std::string operator()(const Refuse& message) const {
    return fmt::format("refuse epoch={} promised={}", message.epoch.value, to_string(message.promised));
  }
  std::string operator()(const Decided& message) const {
    return fmt::format("decided next={}", to_string(message.decision.next));
  }
  std::string operator()(const Leave& message) const { return fmt::format("leave epoch={}", message.epoch.value); }
  std::string operator()(const Died& message) const {
    return fmt::format("died member={} record={}", message.member.value, message.record ? "read" : "unreadable");
  }
};

}  // namespace

wire::Bytes encode_message(const Message& message) {
  wire::Writer out;
  std::visit(Encoder{out}, message);
  return out.take();
}

std::optional<Message> decode_message(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  const auto kind = static_cast<Kind>(in.below(kKindCount));
  const Epoch epoch{in.u64()};
  const bool of_no_view = epoch.value == 0 && kind != Kind::heartbeat;
  if (!in.ok() || of_no_view || epoch.value == std::numeric_limits<std::uint64_t>::max()) return std::nullopt;
  Message message = decode_body(in, kind, epoch);
  if (!in.finished()) return std::nullopt;
  return message;
}

std::string to_string(const Ballot& ballot) {
  return fmt::format("{}.{}", ballot.number, ballot.proposer.value);
}

std::string to_string(const View& view) {
  std::vector<std::uint64_t> ids;
  for (const Member& member : view.members) ids.push_back(member.id.value);
  return fmt::format("{}:{{{}}}", view.epoch.value, fmt::join(ids, ","));
}

std::string to_string(const Message& message) {
  return std::visit(Describer{}, message);
}

}  // namespace hora::elastic
