#include "collectives/schedule_messages.h"

namespace hora::collectives {
namespace {

constexpr std::uint64_t kNotRetained = std::uint64_t{1} << 63;

}  // namespace

// Once for every operation: without the allocation of a Writer.
std::array<std::byte, kSignatureBytes> encode(const Signature& signature) noexcept {
  std::array<std::byte, kSignatureBytes> message;
  const std::uint64_t bits = signature.pack();
  for (std::size_t i = 0; i < message.size(); ++i) message[i] = static_cast<std::byte>(bits >> (8 * i) & 0xff);
  return message;
}

wire::Bytes encode(std::span<const Signature> signatures) {
  wire::Writer writer;
  for (const Signature& signature : signatures) writer.u64(signature.pack());
  return writer.take();
}

Signature decode_signature(std::span<const std::byte, kSignatureBytes> message) {
  return Signature::unpack(wire::Reader(message).u64());
}

wire::Bytes encode(const OutcomeHeader& header) {
  wire::Writer writer;
  writer.boolean(header.outcome == Step::mismatch);
  writer.u32(static_cast<std::uint32_t>(header.contributors));
  return writer.take();
}

Result<OutcomeHeader> decode_outcome_header(std::span<const std::byte> message) {
  wire::Reader reader(message);
  const bool mismatch = reader.boolean();
  const std::uint32_t contributors = reader.u32();
  if (!reader.finished() || contributors == 0 || contributors > kContributorsMax)
    return Status(StatusCode::internal, "malformed header of a forwarded outcome");
  return OutcomeHeader{mismatch ? Step::mismatch : Step::done, static_cast<int>(contributors)};
}

wire::Bytes encode(const LastOutcomes& outcomes) {
  wire::Writer writer;
  for (const LastOutcome& outcome : outcomes) writer.u64(outcome.sequence | (outcome.retained ? 0 : kNotRetained));
  return writer.take();
}

Result<LastOutcomes> decode_last_outcomes(std::span<const std::byte> message) {
  wire::Reader reader(message);
  LastOutcomes outcomes;
  for (LastOutcome& outcome : outcomes) {
    const std::uint64_t bits = reader.u64();
    outcome = {bits & ~kNotRetained, (bits & kNotRetained) == 0};
  }
  if (!reader.finished()) return Status(StatusCode::internal, "malformed list of last outcomes");
  return outcomes;
}

}  // namespace hora::collectives
