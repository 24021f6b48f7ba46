#include "sim/report.h"

#include <utility>

#include "collectives/recovery.h"

namespace hora::sim {

namespace {

using negotiation::Reject;

void encode_names(wire::Writer& out, const std::vector<std::string>& group, const std::vector<Reject>& rejections) {
  out.u32(static_cast<std::uint32_t>(group.size()));
  for (const std::string& name : group) out.string(name);
  out.u32(static_cast<std::uint32_t>(rejections.size()));
  for (const Reject& reject : rejections) {
    out.string(reject.name);
    out.u64(reject.round);
    out.u8(static_cast<std::uint8_t>(reject.code));
    out.string(reject.text);
  }
}

void decode_names(wire::Reader& in, std::vector<std::string>& group, std::vector<Reject>& rejections) {
  group.resize(in.count(4));
  for (std::string& name : group) name = in.string();
  rejections.resize(in.count(17));
  for (Reject& reject : rejections) {
    reject.name = in.string();
    reject.round = in.u64();
    reject.code = static_cast<StatusCode>(in.u8());
    reject.text = in.string();
  }
}

}  // namespace

wire::Bytes encode(const Report& report) {
  wire::Writer out;
  out.bytes(recovery::encode_reports(report.channels));
  out.u64(report.steps);
  out.boolean(report.between_steps);
  encode_names(out, report.group, report.rejections);
  return out.take();
}

std::optional<Report> decode_report(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  auto channels = recovery::decode_reports(in.bytes());
  Report report;
  report.steps = in.u64();
  report.between_steps = in.boolean();
  decode_names(in, report.group, report.rejections);
  if (!channels || !in.finished()) return std::nullopt;
  report.channels = std::move(*channels);
  return report;
}

std::optional<Verdict> decode_verdict(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  auto channels = recovery::decode_verdicts(in.bytes());
  Verdict verdict;
  decode_names(in, verdict.group, verdict.rejections);
  if (!channels || !in.finished()) return std::nullopt;
  verdict.channels = std::move(*channels);
  return verdict;
}

wire::Bytes decide(const View& old, const View& next, const std::map<MemberId, wire::Bytes>& bytes) {
  std::map<MemberId, Report> reports;
  std::map<MemberId, std::vector<ChannelReport>> channels;
  for (const auto& [id, said] : bytes)
    if (auto report = decode_report(said)) {
      channels[id] = report->channels;
      reports[id] = std::move(*report);
    }
  Verdict verdict{recovery::decide(old, next, channels), {}, {}};
  const auto negotiated = static_cast<std::size_t>(Channel::negotiated);
  std::map<std::string, Reject> latest;
  for (const auto& [id, report] : reports) {
    const ChannelReport& said = report.channels[negotiated];
    if (said.active && said.done == verdict.channels[negotiated].committed) verdict.group = report.group;
    for (const Reject& reject : report.rejections) {
      Reject& known = latest[reject.name];
      if (known.round < reject.round) known = reject;
    }
  }
  for (auto& [name, reject] : latest) verdict.rejections.push_back(std::move(reject));
  wire::Writer out;
  out.bytes(recovery::encode_verdicts(verdict.channels));
  encode_names(out, verdict.group, verdict.rejections);
  return out.take();
}

bool stand_at_boundary(const std::map<MemberId, wire::Bytes>& reports) {
  std::optional<std::pair<Positions, std::uint64_t>> boundary;
  for (const auto& [id, bytes] : reports) {
    const auto report = decode_report(bytes);
    if (!report || !report->between_steps) return false;
    std::pair<Positions, std::uint64_t> done{{}, report->steps};
    for (std::size_t channel = 0; channel < kChannelCount; ++channel) {
      if (report->channels[channel].active) return false;
      done.first[channel] = report->channels[channel].done;
    }
    if (boundary.value_or(done) != done) return false;
    boundary = done;
  }
  return true;
}

}  // namespace hora::sim
