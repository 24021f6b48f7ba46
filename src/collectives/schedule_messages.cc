#include "collectives/schedule_messages.h"

namespace hora::collectives {

wire::Bytes encode(const Signature& signature) {
  return encode(std::span(&signature, 1));
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

wire::Bytes encode(const RetainedSequences& retained) {
  wire::Writer writer;
  for (const std::uint64_t sequence : retained) writer.u64(sequence);
  return writer.take();
}

Result<RetainedSequences> decode_retained(std::span<const std::byte> message) {
  wire::Reader reader(message);
  RetainedSequences retained;
  for (std::uint64_t& sequence : retained) sequence = reader.u64();
  if (!reader.finished()) return Status(StatusCode::internal, "malformed list of retained operations");
  return retained;
}

}  // namespace hora::collectives
