// Joining: the machine of a newcomer, and of the members that admit it.
#include <catch2/catch.hpp>
#include <chrono>

#include "driven.h"

using namespace hora;
using namespace hora::elastic;
using namespace std::chrono_literals;

namespace {

Member newcomer(std::uint64_t id = 5) {
  return {MemberId{id}, 7, "unix:" + std::to_string(id)};
}

Decided joined(std::uint64_t epoch = 2) {
  return {{view_of({0, 1, 5}, epoch), report_of(9), {}}};
}

// The first member of {0, 1} has proposed, member 1 has promised.
void propose(Driven& first) {
  first.report(10);
  REQUIRE(first.sent<Prepare>(1).size() == 1);
  first.receive(1, Promise{first.machine.view().epoch, first.sent<Prepare>(1)[0].ballot, report_of(11), std::nullopt});
}

}  // namespace

TEST_CASE("a_newcomer_waits_outside_of_any_view_and_its_record_promises_nothing") {
  Driven outsider(newcomer());
  CHECK(outsider.machine.view() == View{});
  CHECK_FALSE(outsider.machine.next_deadline());
  REQUIRE(outsider.all<Persist>().size() == 1);
  const auto record = decode_record(outsider.all<Persist>()[0].record);
  REQUIRE(record);
  CHECK(*record == Record{});
}

TEST_CASE("a_newcomer_enters_with_the_first_decision_that_ends_with_it") {
  Driven outsider(newcomer());
  outsider.receive(0, joined(7));
  REQUIRE(outsider.all<Install>().size() == 1);
  CHECK(outsider.all<Install>()[0].next == view_of({0, 1, 5}, 7));
  CHECK(outsider.all<Install>()[0].verdict == report_of(9));
  CHECK(std::holds_alternative<Install>(outsider.actions.back()));
  const auto record = decode_record(outsider.all<Persist>().back().record);
  REQUIRE(record);
  CHECK(record->epoch == Epoch{7});
  // From here on it is a member like any other.
  outsider.receive(0, Prepare{Epoch{7}, ballot_of(1, 0)});
  outsider.report();
  CHECK(outsider.sent<Promise>(0).size() == 1);
  outsider.pass(1s);
  CHECK_FALSE(outsider.sent<Heartbeat>(1).empty());
}

TEST_CASE("a_newcomer_answers_members_with_a_heartbeat_of_no_view") {
  Driven outsider(newcomer());
  outsider.receive(0, Heartbeat{Epoch{4}});
  outsider.receive(0, Prepare{Epoch{4}, ballot_of(1, 0)});
  CHECK(outsider.sent<Heartbeat>(0) == std::vector(2, Heartbeat{Epoch{0}}));
  outsider.receive(6, Heartbeat{Epoch{0}});  // another newcomer
  CHECK(outsider.sent<Heartbeat>(6).empty());
}

TEST_CASE("a_decision_without_the_newcomer_is_none_of_its_business") {
  Driven outsider(newcomer());
  outsider.receive(0, Decided{{view_of({0, 1}, 3), {}, {{MemberId{2}, "its process died", true, false}}}});
  CHECK_FALSE(outsider.machine.fenced());
  CHECK(outsider.machine.view() == View{});
  outsider.receive(0, Decided{{view_of({0, 5, 1}, 3), {}, {}}});  // where no newcomer stands
  CHECK(outsider.all<Install>().empty());
  CHECK(outsider.machine.refused() == 1);
}

TEST_CASE("a_newcomer_that_was_dropped_before_it_heard_of_its_view_fences") {
  Driven outsider(newcomer());
  outsider.receive(0, Decided{{view_of({0, 1}, 3), {}, {{MemberId{5}, "silent for 3000 ms", false, false}}}});
  CHECK(outsider.machine.fenced());
  REQUIRE(outsider.all<Fence>().size() == 1);
  CHECK(outsider.all<Fence>()[0].cause.code() == StatusCode::fenced);
}

TEST_CASE("a_newcomer_may_leave_before_it_is_in") {
  Driven outsider(newcomer());
  outsider.machine.leave(outsider.now);
  outsider.take();
  REQUIRE(outsider.all<Fence>().size() == 1);
  CHECK(outsider.all<Fence>()[0].cause.code() == StatusCode::shut_down);
}

TEST_CASE("a_death_seen_from_outside_counts_from_the_first_view_on") {
  Driven outsider(newcomer());
  outsider.die(1, founding_record());
  outsider.receive(0, joined());
  REQUIRE(outsider.all<Install>().size() == 1);
  CHECK(outsider.all<Freeze>().size() == 1);  // of view 2, which needs a successor
  outsider.pass(500ms);
  CHECK(outsider.sent<Prepare>(0).size() == 1);
  CHECK(outsider.sent<Prepare>(1).empty());
}

TEST_CASE("the_first_member_admits_at_once_and_tells_the_newcomer") {
  Driven first(0, view_of({0, 1}));
  first.machine.admit(newcomer(), first.now);
  first.take();
  propose(first);
  CHECK(first.sent<Prepare>(5).empty());  // it has no vote about its own view
  REQUIRE(first.sent<Accept>(1).size() == 1);
  CHECK(first.sent<Accept>(5).empty());
  first.receive(5, Accepted{Epoch{1}, first.sent<Prepare>(1)[0].ballot});
  first.receive(1, Accepted{Epoch{1}, first.sent<Prepare>(1)[0].ballot});
  CHECK(first.machine.view() == view_of({0, 1, 5}, 2));
  REQUIRE(first.sent<Decided>(5).size() == 1);
  CHECK(first.sent<Decided>(5)[0].decision.next == view_of({0, 1, 5}, 2));
  // Lost: it is told again.
  first.receive(5, Heartbeat{Epoch{0}});
  CHECK(first.sent<Decided>(5).size() == 2);
}

TEST_CASE("who_stands_at_no_boundary_decides_without_the_newcomer") {
  MembershipOptions options = options_with();
  std::map<MemberId, wire::Bytes> seen;
  options.may_enter = [&seen](const View& old, const std::map<MemberId, wire::Bytes>& reports) {
    seen = reports;
    return old.size() != 2;
  };
  Driven first(0, view_of({0, 1}), options);
  first.machine.admit(newcomer(), first.now);
  first.take();
  propose(first);
  CHECK(seen == std::map<MemberId, wire::Bytes>{{MemberId{0}, report_of(10)}, {MemberId{1}, report_of(11)}});
  first.receive(1, Accepted{Epoch{1}, first.sent<Prepare>(1)[0].ballot});
  CHECK(first.machine.view() == view_of({0, 1}, 2));
  // The wish is forgotten.
  first.machine.request_view_change({StatusCode::timed_out, "operation 1"}, first.now);
  first.take();
  seen.clear();
  first.report(12);
  first.receive(1, Promise{Epoch{2}, first.sent<Prepare>(1)[1].ballot, report_of(13), std::nullopt});
  CHECK(seen.empty());
}

TEST_CASE("a_view_that_drops_a_member_admits_nobody") {
  Driven first(0);
  first.machine.admit(newcomer(), first.now);
  first.die(2, founding_record());
  first.report(10);
  first.receive(1, Promise{Epoch{1}, first.sent<Prepare>(1)[0].ballot, report_of(11), std::nullopt});
  REQUIRE(first.sent<Accept>(1).size() == 1);
  CHECK(first.sent<Accept>(1)[0].proposal.decision.next == view_of({0, 1}, 2));
}

TEST_CASE("who_is_known_is_not_admitted") {
  Driven first(0);
  first.machine.admit(newcomer(1), first.now);
  first.machine.admit(newcomer(0), first.now);
  first.die(5, Record{});
  first.machine.admit(newcomer(), first.now);
  first.machine.on_link_down(MemberId{6}, first.now);
  first.machine.admit(newcomer(6), first.now);
  first.take();
  CHECK(first.sent<Prepare>(1).empty());
}

TEST_CASE("a_newcomer_that_died_as_a_stranger_is_dropped_by_the_next_view") {
  View old = view_of({0, 1});
  old.members[1].host = 8;
  Driven first(0, old);
  first.machine.admit(newcomer(), first.now);
  first.take();
  propose(first);
  first.die(5, Record{});
  first.receive(1, Accepted{Epoch{1}, first.sent<Prepare>(1)[0].ballot});
  REQUIRE(first.all<Install>().size() == 1);
  CHECK(first.all<Install>()[0].next.size() == 3);
  REQUIRE(first.sent<Died>(1).size() == 1);  // whose host cannot see it
  CHECK(first.sent<Died>(1)[0].record == encode_record(Record{}));
  CHECK(first.sent<Prepare>(1).size() == 2);
}

TEST_CASE("strangers_of_no_view_are_not_answered_and_those_of_a_later_one_are_asked") {
  Driven member(1);
  member.actions.clear();
  member.receive(5, Heartbeat{Epoch{0}});
  member.receive(5, Heartbeat{Epoch{1}});
  CHECK(member.actions.empty());
  member.receive(5, Heartbeat{Epoch{2}});
  CHECK(member.sent<Heartbeat>(5) == std::vector{Heartbeat{Epoch{1}}});
}

TEST_CASE("a_decision_is_true_whoever_tells_it") {
  Driven member(1, view_of({0, 1}));
  member.receive(0, Prepare{Epoch{1}, ballot_of(1, 0)});
  member.report();
  member.receive(5, joined());
  CHECK(member.machine.view() == view_of({0, 1, 5}, 2));
}

TEST_CASE("accepts_a_newcomer_only_at_the_end_of_all_members") {
  Driven member(1);
  const auto asked = [&member](std::initializer_list<std::uint64_t> next) {
    member.receive(0, Accept{Epoch{1}, {ballot_of(1, 0), {view_of(next, 2), {}, {}}}});
    return member.sent<Accepted>(0).size();
  };
  CHECK(asked({0, 1, 5}) == 0);
  CHECK(asked({0, 1, 5, 2}) == 0);
  CHECK(asked({0, 2, 1, 5}) == 0);
  CHECK(asked({0, 1, 2, 5, 6}) == 0);
  CHECK(asked({0, 1, 2, 5}) == 1);
}
