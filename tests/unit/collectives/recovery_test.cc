#include "collectives/recovery.h"

#include <catch2/catch.hpp>

using namespace hora;

namespace {

View view_of(std::initializer_list<std::uint64_t> ids, std::uint64_t epoch) {
  View view;
  view.epoch.value = epoch;
  for (const std::uint64_t id : ids) view.members.push_back({MemberId{id}, 1, ""});
  return view;
}

const View kOld = view_of({10, 11, 12}, 1);
const View kWithoutLast = view_of({10, 11}, 2);
const View kSame = view_of({10, 11, 12}, 2);

Signature signature_of(Collective kind, int root = 0) {
  return {kind, DataType::float32, ReduceOp::sum, Rank{root}, 100};
}

ChannelReport active(std::uint64_t done, Signature signature = signature_of(Collective::allreduce)) {
  ChannelReport report;
  report.done = done;
  report.active = true;
  report.signature = signature;
  return report;
}

ChannelReport idle(std::uint64_t done) {
  ChannelReport report;
  report.done = done;
  return report;
}

ChannelReport chunked(std::uint64_t done, std::vector<std::uint64_t> reduced) {
  ChannelReport report = active(done);
  report.overwrites_input = true;
  report.reduced = std::move(reduced);
  return report;
}

// Ranks 10, 11, ... report these on the ordered channel; the other channel was never used.
ChannelVerdict ordered(const View& next, const std::vector<ChannelReport>& reports,
                       Transport transport = Transport::shm) {
  View old = kOld;
  old.config.transport = transport;
  std::map<MemberId, std::vector<ChannelReport>> all;
  for (std::size_t i = 0; i < reports.size(); ++i) all[old.members[i].id] = {reports[i], idle(0)};
  const auto verdicts = recovery::decide(old, next, all);
  REQUIRE(verdicts.size() == kChannelCount);
  CHECK(verdicts[1].committed == 0);
  CHECK(verdicts[1].next == Fate::redo);
  return verdicts[0];
}

}  // namespace

TEST_CASE("what_is_done_at_a_survivor_is_committed") {
  const ChannelVerdict verdict = ordered(kWithoutLast, {idle(8), active(7)});
  CHECK(verdict.committed == 8);
  CHECK(verdict.next == Fate::redo);
}

TEST_CASE("what_a_leaver_released_is_committed_where_its_memory_outlives_it") {
  const ChannelVerdict verdict = ordered(kWithoutLast, {active(7), active(7), idle(8)});
  CHECK(verdict.committed == 8);
  CHECK(verdict.next == Fate::redo);
}

TEST_CASE("what_only_a_leaver_holds_is_done_again_without_it") {
  for (const Transport transport : {Transport::tcp, Transport::mixed, Transport::mpi}) {
    const ChannelVerdict verdict = ordered(kWithoutLast, {active(7), active(7), idle(8)}, transport);
    CHECK(verdict.committed == 7);
    CHECK(verdict.next == Fate::redo);
    CHECK(ordered(kWithoutLast, {active(7), idle(8), idle(8)}, transport).committed == 8);
    const ChannelReport broadcast = active(7, signature_of(Collective::broadcast, 2));
    CHECK(ordered(kWithoutLast, {broadcast, broadcast, idle(8)}, transport).next == Fate::broken);
  }
}

TEST_CASE("an_idle_channel_redoes_nothing") {
  const ChannelVerdict verdict = ordered(kWithoutLast, {idle(7), idle(7)});
  CHECK(verdict.committed == 7);
  CHECK(verdict.next == Fate::redo);
}

TEST_CASE("an_expired_operation_breaks_and_names_who_did_not_start_it") {
  ChannelReport expired = active(3);
  expired.expired = true;
  const ChannelVerdict verdict = ordered(kSame, {expired, idle(3), active(3)});
  CHECK(verdict.next == Fate::broken);
  CHECK(verdict.committed == 3);
  CHECK(verdict.cause.find("operation 4") != std::string::npos);
  CHECK(verdict.cause.find("rank 1") != std::string::npos);
}

TEST_CASE("an_expired_operation_that_is_done_at_a_survivor_is_committed") {
  ChannelReport expired = active(3);
  expired.expired = true;
  const ChannelVerdict verdict = ordered(kSame, {expired, idle(4), expired});
  CHECK(verdict.committed == 4);
  CHECK(verdict.next == Fate::redo);
}

TEST_CASE("an_allgather_breaks_only_when_the_members_change") {
  const ChannelReport report = active(0, signature_of(Collective::allgather));
  CHECK(ordered(kWithoutLast, {report, idle(0)}).next == Fate::broken);
  CHECK(ordered(kSame, {report, idle(0), report}).next == Fate::redo);
}

TEST_CASE("a_broadcast_breaks_only_when_its_root_left") {
  CHECK(ordered(kWithoutLast, {active(0, signature_of(Collective::broadcast, 2)), idle(0)}).next == Fate::broken);
  CHECK(ordered(kWithoutLast, {active(0, signature_of(Collective::broadcast, 1)), idle(0)}).next == Fate::redo);
  CHECK(ordered(kWithoutLast, {active(0, signature_of(Collective::broadcast, 9)), idle(0)}).next == Fate::broken);
}

TEST_CASE("a_committed_allgather_is_not_broken_by_the_laggard") {
  const ChannelVerdict verdict = ordered(kWithoutLast, {idle(1), active(0, signature_of(Collective::allgather))});
  CHECK(verdict.committed == 1);
  CHECK(verdict.next == Fate::redo);
}

TEST_CASE("a_chunked_operation_resumes_after_the_reduced_units") {
  // Rank 2 is gone: what either survivor saw of it counts. Rank 0 saw less of rank 1 than rank 1 has done.
  const ChannelVerdict verdict = ordered(kWithoutLast, {chunked(5, {4, 1, 2}), chunked(5, {3, 2, 3})});
  CHECK(verdict.next == Fate::resume);
  CHECK(verdict.reduced == std::vector<std::uint64_t>{4, 2, 3});
}

TEST_CASE("a_survivor_that_has_not_seen_all_arrive_has_reduced_nothing") {
  const ChannelVerdict verdict = ordered(kWithoutLast, {chunked(5, {1, 0, 2}), chunked(5, {})});
  CHECK(verdict.next == Fate::resume);
  CHECK(verdict.reduced == std::vector<std::uint64_t>{1, 0, 2});
}

TEST_CASE("intact_inputs_are_reduced_again_whole") {
  CHECK(ordered(kWithoutLast, {chunked(5, {0, 0, 0}), chunked(5, {0, 0, 0})}).next == Fate::redo);
  ChannelReport out_of_place = chunked(5, {1, 1, 1});
  out_of_place.overwrites_input = false;
  CHECK(ordered(kWithoutLast, {out_of_place, out_of_place}).next == Fate::redo);
  CHECK(ordered(kWithoutLast, {out_of_place, chunked(5, {1, 1, 1})}).next == Fate::resume);
}

TEST_CASE("reports_of_another_shape_do_not_count_as_units") {
  CHECK(ordered(kWithoutLast, {chunked(5, {9}), chunked(5, {9, 9, 9, 9})}).next == Fate::redo);
}

TEST_CASE("reports_and_verdicts_survive_the_round_trip") {
  ChannelReport report = chunked(1ULL << 40, {1, 2, 3});
  report.expired = true;
  const std::vector<ChannelReport> reports{report, idle(2)};
  const auto decoded = recovery::decode_reports(recovery::encode_reports(reports));
  REQUIRE(decoded);
  CHECK((*decoded)[0].done == report.done);
  CHECK((*decoded)[0].active);
  CHECK((*decoded)[0].expired);
  CHECK((*decoded)[0].overwrites_input);
  CHECK((*decoded)[0].signature == report.signature);
  CHECK((*decoded)[0].reduced == report.reduced);
  CHECK((*decoded)[1].done == 2);

  const std::vector<ChannelVerdict> verdicts{{7, Fate::resume, {1, 2}, ""}, {3, Fate::broken, {}, "why"}};
  const auto verdict = recovery::decode_verdicts(recovery::encode_verdicts(verdicts));
  REQUIRE(verdict);
  CHECK((*verdict)[0].committed == 7);
  CHECK((*verdict)[0].next == Fate::resume);
  CHECK((*verdict)[0].reduced == std::vector<std::uint64_t>{1, 2});
  CHECK((*verdict)[1].cause == "why");
}

TEST_CASE("malformed_reports_and_verdicts_are_refused") {
  const std::vector<ChannelReport> reports{idle(1), idle(2)};
  const wire::Bytes bytes = recovery::encode_reports(reports);
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(recovery::decode_reports(std::span(bytes).first(length)));
  CHECK_FALSE(recovery::decode_reports(recovery::encode_reports(std::span(reports).first(1))));
  wire::Bytes invalid_kind = bytes;
  invalid_kind[4 + 8 + 1 + 1] = std::byte{15};  // lowest byte of the first signature: kind 15
  CHECK_FALSE(recovery::decode_reports(invalid_kind));

  const std::vector<ChannelVerdict> verdicts(kChannelCount);
  const wire::Bytes verdict_bytes = recovery::encode_verdicts(verdicts);
  REQUIRE(recovery::decode_verdicts(verdict_bytes));
  for (std::size_t length = 0; length < verdict_bytes.size(); ++length)
    CHECK_FALSE(recovery::decode_verdicts(std::span(verdict_bytes).first(length)));
}
