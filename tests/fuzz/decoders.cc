#include "decoders.h"

#include <algorithm>

#include "collectives/recovery.h"
#include "collectives/schedule_messages.h"
#include "elastic/messages.h"
#include "elastic/record.h"
#include "elastic/store/store_protocol.h"
#include "launch/agent_messages.h"
#include "negotiation/messages.h"

namespace hora::fuzz {
namespace {

// The view that messages of the negotiation are decoded for.
constexpr Epoch kEpoch{3};
constexpr int kSize = 4;

bool has_value(const auto& decoded) {
  if constexpr (requires { decoded.has_value(); }) {
    return decoded.has_value();
  } else {
    return decoded.ok();
  }
}

Verdict round_trip(std::span<const std::byte> message, auto decode, auto encode) {
  auto decoded = decode(message);
  if (!has_value(decoded)) return Verdict::rejected;
  return std::ranges::equal(encode(decoded.value()), message) ? Verdict::accepted : Verdict::altered;
}

template <auto decode, auto encode>
Verdict check(std::span<const std::byte> message) {
  return round_trip(message, decode, encode);
}

// A record is read from memory that is longer than it.
Verdict check_record(std::span<const std::byte> message) {
  const auto record = elastic::decode_record(message);
  if (!record) return Verdict::rejected;
  const wire::Bytes again = elastic::encode_record(*record);
  return again.size() <= message.size() && std::ranges::equal(again, message.first(again.size())) ? Verdict::accepted
                                                                                                  : Verdict::altered;
}

// A new decoder is one line. Lambdas, because some of the functions are overloaded.
constexpr Decoder kDecoders[] = {
    {'O', "forwarded outcome",
     check<collectives::decode_outcome_header, [](auto& m) { return collectives::encode(m); }>},
    {'S', "last outcomes", check<collectives::decode_last_outcomes, [](auto& m) { return collectives::encode(m); }>},
    {'R', "reports", check<recovery::decode_reports, recovery::encode_reports>},
    {'V', "verdicts", check<recovery::decode_verdicts, recovery::encode_verdicts>},
    {'M', "membership", check<elastic::decode_message, elastic::encode_message>},
    {'L', "last record", check_record},
    {'N', "negotiation",
     check<[](auto m) { return negotiation::decode(m, kEpoch, kSize); },
           [](auto& m) { return negotiation::encode(kEpoch, m); }>},
    {'Q', "store request", check<store::decode_request, [](auto& m) { return store::encode(m); }>},
    {'A', "store reply", check<store::decode_reply, [](auto& m) { return store::encode(m); }>},
    {'G', "to an agent", check<launch::decode_to_agent, [](auto& m) { return launch::encode(m); }>},
    {'H', "of an agent", check<launch::decode_from_agent, [](auto& m) { return launch::encode(m); }>},
};

}  // namespace

std::span<const Decoder> decoders() {
  return kDecoders;
}

Verdict decode_tagged(std::span<const std::byte> input) {
  if (input.empty()) return Verdict::rejected;
  const auto decoder = std::ranges::find(kDecoders, static_cast<char>(input[0]), &Decoder::tag);
  return decoder == std::end(kDecoders) ? Verdict::rejected : decoder->decode(input.subspan(1));
}

}  // namespace hora::fuzz
