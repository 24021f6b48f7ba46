#include "elastic/record.h"

#include <algorithm>

namespace hora::elastic {

namespace {

constexpr std::uint32_t kRecordMagic = 0x31726568;  // "her1"
constexpr std::size_t kMemberBytesMin = 8 + 8 + 4;
constexpr std::size_t kDepartureBytesMin = 8 + 4 + 1 + 1;

// FNV-1a: it tells torn bytes from whole ones, it need not resist anybody.
std::uint64_t checksum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0xcbf29ce484222325ULL;
  for (const std::byte byte : bytes) sum = (sum ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3ULL;
  return sum;
}

template <typename T, typename Decode>
std::optional<T> decode_optional(wire::Reader& in, Decode decode) {
  if (!in.boolean()) return std::nullopt;
  return decode(in);
}

}  // namespace

void encode(wire::Writer& out, const Member& member) {
  out.u64(member.id.value);
  out.u64(member.host);
  out.string(member.address);
}

void encode(wire::Writer& out, const AgreedConfig& config) {
  out.u32(config.min_size);
  out.u32(config.silence_ms);
  out.u64(config.fusion_bytes);
  out.u32(config.chunk_bytes);
  out.u32(config.one_shot_bytes);
  out.u8(static_cast<std::uint8_t>(config.transport));
  out.u32(config.sockets_per_pair);
}

void encode(wire::Writer& out, const View& view) {
  out.u64(view.epoch.value);
  out.u32(static_cast<std::uint32_t>(view.members.size()));
  for (const Member& member : view.members) encode(out, member);
  out.u8(static_cast<std::uint8_t>(view.decider));
  encode(out, view.config);
}

void encode(wire::Writer& out, const Ballot& ballot) {
  out.u64(ballot.number);
  out.u64(ballot.proposer.value);
}

void encode(wire::Writer& out, const Decision& decision) {
  encode(out, decision.next);
  out.bytes(decision.verdict);
  out.u32(static_cast<std::uint32_t>(decision.departures.size()));
  for (const Departure& departure : decision.departures) {
    out.u64(departure.member.value);
    out.string(departure.cause);
    out.boolean(departure.certain);
    out.boolean(departure.left);
  }
}

void encode(wire::Writer& out, const Acceptance& acceptance) {
  encode(out, acceptance.ballot);
  encode(out, acceptance.decision);
}

Member decode_member(wire::Reader& in) {
  Member member;
  member.id.value = in.u64();
  member.host = in.u64();
  member.address = in.string();
  return member;
}

AgreedConfig decode_config(wire::Reader& in) {
  AgreedConfig config;
  config.min_size = in.u32();
  config.silence_ms = in.u32();
  config.fusion_bytes = in.u64();
  config.chunk_bytes = in.u32();
  config.one_shot_bytes = in.u32();
  config.transport = static_cast<Transport>(in.below(kTransportCount));
  config.sockets_per_pair = in.u32();
  return config;
}

View decode_view(wire::Reader& in) {
  View view;
  view.epoch.value = in.u64();
  view.members.resize(in.count(kMemberBytesMin));
  for (Member& member : view.members) member = decode_member(in);
  view.decider = static_cast<Decider>(in.below(1));  // nobody here knows how to ask the store
  view.config = decode_config(in);

  std::vector<MemberId> ids;
  for (const Member& member : view.members) ids.push_back(member.id);
  std::sort(ids.begin(), ids.end());
  const bool distinct = std::adjacent_find(ids.begin(), ids.end()) == ids.end();
  if (view.members.empty() || !distinct || view.epoch.value == 0) in.fail();
  return view;
}

Ballot decode_ballot(wire::Reader& in) {
  Ballot ballot;
  ballot.number = in.u64();
  ballot.proposer.value = in.u64();
  return ballot;
}

Decision decode_decision(wire::Reader& in) {
  Decision decision;
  decision.next = decode_view(in);
  const std::span<const std::byte> verdict = in.bytes();
  decision.verdict.assign(verdict.begin(), verdict.end());
  decision.departures.resize(in.count(kDepartureBytesMin));
  for (Departure& departure : decision.departures) {
    departure.member.value = in.u64();
    departure.cause = in.string();
    departure.certain = in.boolean();
    departure.left = in.boolean();
  }
  return decision;
}

Acceptance decode_acceptance(wire::Reader& in) {
  Acceptance acceptance;
  acceptance.ballot = decode_ballot(in);
  acceptance.decision = decode_decision(in);
  return acceptance;
}

wire::Bytes encode_record(const Record& record) {
  wire::Writer body;
  body.u64(record.epoch.value);
  body.boolean(record.installed.has_value());
  if (record.installed) encode(body, *record.installed);
  encode(body, record.promised);
  body.boolean(record.accepted.has_value());
  if (record.accepted) encode(body, *record.accepted);

  wire::Writer out;
  out.u32(kRecordMagic);
  out.u64(checksum(body.view()));
  out.bytes(body.view());
  return out.take();
}

std::optional<Record> decode_record(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  const bool known = in.u32() == kRecordMagic;
  const std::uint64_t sum = in.u64();
  const std::span<const std::byte> body_bytes = in.bytes();
  if (!known || !in.ok() || sum != checksum(body_bytes)) return std::nullopt;

  wire::Reader body(body_bytes);
  Record record;
  record.epoch.value = body.u64();
  record.installed = decode_optional<Decision>(body, decode_decision);
  record.promised = decode_ballot(body);
  record.accepted = decode_optional<Acceptance>(body, decode_acceptance);
  if (record.installed && record.installed->next.epoch != record.epoch) body.fail();
  if (record.accepted && record.accepted->decision.next.epoch.value != record.epoch.value + 1) body.fail();
  const bool outside = record.epoch.value == 0;
  if (outside && (record.installed || record.accepted || record.promised != Ballot{})) body.fail();
  if (!body.finished()) return std::nullopt;
  return record;
}

}  // namespace hora::elastic
