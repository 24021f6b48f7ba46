#include "engine/replay_log.h"

#include "elastic/record.h"

namespace hora::engine {

namespace {

enum class Kind : std::uint8_t { snapshot, result, boundary, view };
constexpr std::uint8_t kKindCount = 4;

struct Encoder {
  wire::Writer& out;
  void operator()(const SnapshotEntry& entry) const {
    out.u8(static_cast<std::uint8_t>(Kind::snapshot));
    out.bytes(entry.description);
    elastic::encode(out, entry.view);
    out.u64(entry.step);
    out.u64(entry.bytes);
  }
  void operator()(const ResultEntry& entry) const {
    out.u8(static_cast<std::uint8_t>(Kind::result));
    out.boolean(entry.named);
    out.string(entry.name);
    out.u8(static_cast<std::uint8_t>(entry.status.code()));
    out.string(entry.status.message());
    out.u64(entry.outcome.epoch.value);
    out.u32(static_cast<std::uint32_t>(entry.outcome.contributors));
    out.u64(entry.signature.pack());
    out.u64(entry.bytes);
  }
  void operator()(const BoundaryEntry& entry) const {
    out.u8(static_cast<std::uint8_t>(Kind::boundary));
    out.u64(entry.step);
  }
  void operator()(const ViewEntry& entry) const {
    out.u8(static_cast<std::uint8_t>(Kind::view));
    elastic::encode(out, entry.view);
  }
};

ResultEntry decode_result(wire::Reader& in) {
  ResultEntry entry;
  entry.named = in.boolean();
  entry.name = in.string();
  const auto code = static_cast<StatusCode>(in.below(static_cast<std::uint8_t>(StatusCode::internal) + 1));
  entry.status = Status(code, in.string());
  entry.outcome.epoch = Epoch{in.u64()};
  entry.outcome.contributors = static_cast<int>(in.u32());
  entry.signature = Signature::unpack(in.u64());
  entry.bytes = in.u64();
  return entry;
}

LogEntry decode(wire::Reader& in) {
  switch (static_cast<Kind>(in.below(kKindCount))) {
    case Kind::snapshot: {
      const auto description = in.bytes();
      SnapshotEntry entry{{description.begin(), description.end()}, elastic::decode_view(in), 0, 0};
      entry.step = in.u64();
      entry.bytes = in.u64();
      return entry;
    }
    case Kind::result: return decode_result(in);
    case Kind::boundary: return BoundaryEntry{in.u64()};
    case Kind::view: return ViewEntry{elastic::decode_view(in)};
  }
  return BoundaryEntry{};
}

}  // namespace

wire::Bytes encode_entry(const LogEntry& entry) {
  wire::Writer head;
  std::visit(Encoder{head}, entry);
  wire::Writer out;
  out.bytes(head.view());
  return out.take();
}

Result<LogEntry> decode_entry(std::span<const std::byte> head) {
  wire::Reader in(head);
  LogEntry entry = decode(in);
  if (!in.finished()) return Status(StatusCode::internal, "a malformed entry of the replay log");
  return entry;
}

wire::Bytes encode_progress(const Progress& progress) {
  wire::Writer out;
  out.u64(progress.step);
  out.u64(progress.epoch.value);
  return out.take();
}

Progress decode_progress(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  const std::uint64_t step = in.u64();
  return {step, Epoch{in.u64()}};
}

}  // namespace hora::engine
