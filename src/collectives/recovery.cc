#include "collectives/recovery.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace hora::recovery {

namespace {

constexpr std::size_t kReportBytesMin = 8 + 3 + 8 + 4;
constexpr std::size_t kVerdictBytesMin = 8 + 1 + 4 + 4;
constexpr std::uint8_t kFateCount = 3;

void encode_counts(wire::Writer& out, std::span<const std::uint64_t> counts) {
  out.u32(static_cast<std::uint32_t>(counts.size()));
  for (const std::uint64_t count : counts) out.u64(count);
}

std::vector<std::uint64_t> decode_counts(wire::Reader& in) {
  std::vector<std::uint64_t> counts(in.count(sizeof(std::uint64_t)));
  for (std::uint64_t& count : counts) count = in.u64();
  return counts;
}

Signature decode_signature(wire::Reader& in) {
  const Signature signature = Signature::unpack(in.u64());
  if (static_cast<int>(signature.kind) >= kCollectiveCount || static_cast<int>(signature.dtype) >= kDataTypeCount ||
      static_cast<int>(signature.op) >= kReduceOpCount)
    in.fail();
  return signature;
}

// What the members say of one channel, by rank of the old view; null for those that said nothing.
using ByRank = std::vector<const ChannelReport*>;

ByRank reports_by_rank(const View& old, std::size_t channel,
                       const std::map<MemberId, std::vector<ChannelReport>>& reports) {
  ByRank by_rank;
  for (const Member& member : old.members) {
    const auto report = reports.find(member.id);
    const bool said = report != reports.end() && channel < report->second.size();
    by_rank.push_back(said ? &report->second[channel] : nullptr);
  }
  return by_rank;
}

bool started(const ChannelReport* report, std::uint64_t committed) {
  return report != nullptr && report->active && report->done == committed;
}

std::string expired_cause(const ByRank& by_rank, std::uint64_t committed) {
  std::vector<std::size_t> late;
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank)
    if (by_rank[rank] != nullptr && by_rank[rank]->done <= committed && !started(by_rank[rank], committed))
      late.push_back(rank);
  if (late.empty()) return fmt::format("operation {} did not end within the operation timeout", committed + 1);
  return fmt::format("operation {} timed out: not started by rank{} {}", committed + 1, late.size() > 1 ? "s" : "",
                     fmt::join(late, ", "));
}

// Why the operation after `committed` cannot be done in `next`; empty: it can.
std::string broken_cause(const View& old, const View& next, const ByRank& by_rank, std::uint64_t committed) {
  const bool expired = std::any_of(by_rank.begin(), by_rank.end(), [&](const ChannelReport* report) {
    return started(report, committed) && report->expired;
  });
  if (expired) return expired_cause(by_rank, committed);
  for (const ChannelReport* report : by_rank) {
    if (!started(report, committed)) continue;
    const Signature& signature = report->signature;
    if (signature.kind == Collective::allgather && next.members != old.members)
      return fmt::format("operation {} is an allgather, and its shape changed: {} of {} ranks remain", committed + 1,
                         next.size(), old.size());
    const auto root = static_cast<std::size_t>(signature.root.value);
    if (signature.kind == Collective::broadcast && (root >= old.members.size() || !next.rank_of(old.members[root].id)))
      return fmt::format("operation {} is a broadcast, and its root, rank {}, is gone", committed + 1, root);
  }
  return {};
}

// Units that are known to be reduced, by rank of the old view. A living rank knows its own slice best; of one that is
// gone, the most that anybody saw it publish counts.
std::vector<std::uint64_t> reduced_units(const ByRank& by_rank, std::uint64_t committed) {
  std::vector<std::uint64_t> units(by_rank.size(), 0);
  const auto counts_of = [&](std::size_t rank) -> const std::vector<std::uint64_t>* {
    if (!started(by_rank[rank], committed) || by_rank[rank]->reduced.size() != by_rank.size()) return nullptr;
    return &by_rank[rank]->reduced;
  };
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank) {
    if (by_rank[rank] != nullptr) {
      const auto* own = counts_of(rank);
      units[rank] = own == nullptr ? 0 : (*own)[rank];
      continue;
    }
    for (std::size_t witness = 0; witness < by_rank.size(); ++witness)
      if (const auto* seen = counts_of(witness)) units[rank] = std::max(units[rank], (*seen)[rank]);
  }
  return units;
}

ChannelVerdict decide_channel(const View& old, const View& next, const ByRank& by_rank) {
  ChannelVerdict verdict;
  // Shared memory outlives its owner. Elsewhere what only a leaver holds is lost with it, as if it had died.
  const bool leavers_count = old.config.transport == Transport::shm;
  for (std::size_t rank = 0; rank < by_rank.size(); ++rank)
    if (by_rank[rank] != nullptr && (leavers_count || next.rank_of(old.members[rank].id)))
      verdict.committed = std::max(verdict.committed, by_rank[rank]->done);

  verdict.cause = broken_cause(old, next, by_rank, verdict.committed);
  if (!verdict.cause.empty()) {
    verdict.next = Fate::broken;
    return verdict;
  }
  const bool overwriting = std::any_of(by_rank.begin(), by_rank.end(), [&](const ChannelReport* report) {
    return started(report, verdict.committed) && report->overwrites_input;
  });
  if (!overwriting) return verdict;
  std::vector<std::uint64_t> units = reduced_units(by_rank, verdict.committed);
  if (std::all_of(units.begin(), units.end(), [](std::uint64_t count) { return count == 0; })) return verdict;
  verdict.next = Fate::resume;
  verdict.reduced = std::move(units);
  return verdict;
}

}  // namespace

wire::Bytes encode_reports(std::span<const ChannelReport> reports) {
  wire::Writer out;
  out.u32(static_cast<std::uint32_t>(reports.size()));
  for (const ChannelReport& report : reports) {
    out.u64(report.done);
    out.boolean(report.active);
    out.boolean(report.expired);
    out.u64(report.signature.pack());
    out.boolean(report.overwrites_input);
    encode_counts(out, report.reduced);
  }
  return out.take();
}

wire::Bytes encode_verdicts(std::span<const ChannelVerdict> verdicts) {
  wire::Writer out;
  out.u32(static_cast<std::uint32_t>(verdicts.size()));
  for (const ChannelVerdict& verdict : verdicts) {
    out.u64(verdict.committed);
    out.u8(static_cast<std::uint8_t>(verdict.next));
    encode_counts(out, verdict.reduced);
    out.string(verdict.cause);
  }
  return out.take();
}

std::optional<std::vector<ChannelReport>> decode_reports(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  std::vector<ChannelReport> reports(in.count(kReportBytesMin));
  for (ChannelReport& report : reports) {
    report.done = in.u64();
    report.active = in.boolean();
    report.expired = in.boolean();
    report.signature = decode_signature(in);
    report.overwrites_input = in.boolean();
    report.reduced = decode_counts(in);
  }
  if (!in.finished() || reports.size() != kChannelCount) return std::nullopt;
  return reports;
}

std::optional<std::vector<ChannelVerdict>> decode_verdicts(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  std::vector<ChannelVerdict> verdicts(in.count(kVerdictBytesMin));
  for (ChannelVerdict& verdict : verdicts) {
    verdict.committed = in.u64();
    verdict.next = static_cast<Fate>(in.below(kFateCount));
    verdict.reduced = decode_counts(in);
    verdict.cause = in.string();
  }
  if (!in.finished() || verdicts.size() != kChannelCount) return std::nullopt;
  return verdicts;
}

std::vector<ChannelVerdict> decide(const View& old, const View& next,
                                   const std::map<MemberId, std::vector<ChannelReport>>& reports) {
  std::vector<ChannelVerdict> verdicts;
  for (std::size_t channel = 0; channel < kChannelCount; ++channel)
    verdicts.push_back(decide_channel(old, next, reports_by_rank(old, channel, reports)));
  return verdicts;
}

}  // namespace hora::recovery
