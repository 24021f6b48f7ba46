#include <algorithm>
#include <catch2/catch.hpp>
#include <chrono>

#include "driven.h"

using namespace hora;
using namespace hora::elastic;
using namespace std::chrono_literals;

TEST_CASE("writes_its_first_record_at_once") {
  Driven member(0);
  REQUIRE(member.all<Persist>().size() == 1);
  const auto record = decode_record(member.all<Persist>().front().record);
  REQUIRE(record);
  CHECK(record->epoch == Epoch{1});
  CHECK_FALSE(record->installed);
}

TEST_CASE("first_member_proposes_at_a_certain_death_and_decides_in_two_round_trips") {
  Driven member(0);
  member.die(2, founding_record());
  REQUIRE(member.sent<Prepare>(1).size() == 1);
  CHECK(member.sent<Prepare>(2).empty());
  CHECK(member.all<Freeze>().size() == 1);
  const Ballot ballot = member.sent<Prepare>(1)[0].ballot;
  member.report(10);
  member.receive(1, Promise{Epoch{1}, ballot, report_of(11), std::nullopt});
  REQUIRE(member.sent<Accept>(1).size() == 1);
  CHECK(member.all<Install>().empty());
  member.receive(1, Accepted{Epoch{1}, ballot});
  REQUIRE(member.all<Install>().size() == 1);
  const Install install = member.all<Install>()[0];
  CHECK(install.next == view_of({0, 1}, 2));
  CHECK(install.verdict == wire::Bytes{std::byte{10}, std::byte{11}});
  REQUIRE(install.departures.size() == 1);
  CHECK(install.departures[0].member == MemberId{2});
  CHECK(install.departures[0].certain);
  CHECK(member.sent<Decided>(1).size() == 1);
  CHECK(member.machine.view().epoch == Epoch{2});
}

TEST_CASE("promises_only_when_frozen_and_persists_first") {
  Driven member(1);
  member.receive(0, Prepare{Epoch{1}, ballot_of(1, 0)});
  CHECK(member.sent<Promise>(0).empty());
  REQUIRE(member.all<Freeze>().size() == 1);
  member.actions.clear();
  member.report(5);
  REQUIRE(member.actions.size() == 2);
  REQUIRE(std::holds_alternative<Persist>(member.actions[0]));
  CHECK(decode_record(std::get<Persist>(member.actions[0]).record)->promised == ballot_of(1, 0));
  REQUIRE(member.sent<Promise>(0).size() == 1);
  CHECK(member.sent<Promise>(0)[0].report == report_of(5));
}

TEST_CASE("refuses_a_lower_ballot_after_a_promise") {
  Driven member(2);
  member.receive(1, Prepare{Epoch{1}, ballot_of(3, 1)});
  member.report();
  member.receive(0, Prepare{Epoch{1}, ballot_of(2, 0)});
  REQUIRE(member.sent<Refuse>(0).size() == 1);
  CHECK(member.sent<Refuse>(0)[0].promised == ballot_of(3, 1));
  member.receive(0, Accept{Epoch{1}, {ballot_of(2, 0), {view_of({0, 2}, 2), {}, {}}}});
  CHECK(member.sent<Refuse>(0).size() == 2);
  CHECK(member.sent<Accepted>(0).empty());
}

TEST_CASE("re_proposes_what_a_promise_shows_as_accepted") {
  Driven member(0);
  member.die(2, founding_record());
  member.report();
  const Decision before{view_of({0, 1, 2}, 2), report_of(9), {}};
  const Ballot ballot = member.sent<Prepare>(1)[0].ballot;
  member.receive(1, Promise{Epoch{1}, ballot, report_of(1), Acceptance{ballot_of(0, 2), before}});
  REQUIRE(member.sent<Accept>(1).size() == 1);
  CHECK(member.sent<Accept>(1)[0].proposal.decision == before);
}

TEST_CASE("re_proposes_what_the_record_of_a_dead_one_shows_as_accepted") {
  Driven member(1, view_of({0, 1}));
  const Decision before{view_of({0, 1}, 2), report_of(9), {}};
  Record record = founding_record();
  record.promised = ballot_of(4, 0);
  record.accepted = Acceptance{ballot_of(4, 0), before};
  member.die(0, record);
  member.report();
  REQUIRE_FALSE(member.all<Install>().empty());
  CHECK(member.all<Install>()[0].next == before.next);
  CHECK(member.all<Install>()[0].verdict == report_of(9));
}

TEST_CASE("joins_the_view_that_a_dead_one_had_installed") {
  Driven member(1, view_of({0, 1}));
  member.receive(0, Prepare{Epoch{1}, ballot_of(1, 0)});
  member.report();
  Record record;
  record.epoch = Epoch{2};
  record.installed = Decision{view_of({0, 1}, 2), report_of(3), {}};
  member.die(0, record);
  REQUIRE(member.all<Install>().size() >= 1);
  CHECK(member.all<Install>()[0].next.epoch == Epoch{2});
  CHECK(member.all<Install>()[0].verdict == report_of(3));
}

TEST_CASE("fences_when_the_record_of_a_dead_one_shows_a_later_view_without_it") {
  Driven member(2);
  Record record;
  record.epoch = Epoch{2};
  record.installed = Decision{view_of({0, 1}, 2), {}, {{MemberId{2}, "silent for 3000 ms", false, false}}};
  member.die(0, record);
  REQUIRE(member.all<Fence>().size() == 1);
  CHECK(member.all<Fence>()[0].cause.code() == StatusCode::fenced);
  CHECK(member.all<Fence>()[0].cause.message().find("silent for 3000 ms") != std::string_view::npos);
  CHECK(member.machine.fenced());
  CHECK_FALSE(member.machine.next_deadline());
}

TEST_CASE("last_survivor_goes_on_only_when_every_record_was_read") {
  Driven member(2);
  member.die(0, founding_record());
  member.die(1, std::nullopt);
  member.report();
  CHECK(member.all<Install>().empty());
  member.die(1, founding_record());
  REQUIRE(member.all<Install>().size() == 1);
  CHECK(member.all<Install>()[0].next == view_of({2}, 2));
}

TEST_CASE("fences_without_a_quorum_at_the_deadline") {
  Driven member(2);
  member.machine.on_link_down(MemberId{0}, member.now);
  member.machine.on_link_down(MemberId{1}, member.now);
  member.pass(1s);
  member.report();
  CHECK(member.all<Fence>().empty());
  member.pass(10s);
  REQUIRE(member.all<Fence>().size() == 1);
  CHECK(member.all<Fence>()[0].cause.code() == StatusCode::fenced);
}

TEST_CASE("a_leaver_that_nobody_answers_has_not_departed") {
  Driven member(2);
  member.machine.leave(member.now);
  member.machine.on_link_down(MemberId{0}, member.now);
  member.machine.on_link_down(MemberId{1}, member.now);
  member.pass(1s);
  member.report();
  member.pass(10s);
  REQUIRE(member.all<Fence>().size() == 1);
  CHECK(member.all<Fence>()[0].cause.code() == StatusCode::timed_out);
}

TEST_CASE("waits_for_a_quorum_as_long_as_its_members_may_be_mute") {
  View founding = view_of({0, 1, 2});
  founding.config.silence_ms = 30'000;
  Driven member(0, founding);
  member.die(2, founding_record());
  const Ballot ballot = member.sent<Prepare>(1).at(0).ballot;
  member.report();
  member.pass(25s);
  REQUIRE(member.all<Fence>().empty());
  member.receive(1, Promise{Epoch{1}, ballot, report_of(1), std::nullopt});
  CHECK(member.sent<Accept>(1).size() == 1);
}

TEST_CASE("waits_for_an_unsuspected_member_before_it_decides") {
  Driven member(0);
  member.machine.on_link_down(MemberId{2}, member.now);
  member.pass(200ms);
  const Ballot ballot = member.sent<Prepare>(1)[0].ballot;
  member.report();
  CHECK(member.sent<Accept>(1).empty());
  member.receive(1, Promise{Epoch{1}, ballot, report_of(1), std::nullopt});
  REQUIRE(member.sent<Accept>(1).size() == 1);
  CHECK(member.sent<Accept>(1)[0].proposal.decision.next == view_of({0, 1}, 2));
}

TEST_CASE("a_suspect_that_promises_stays_a_member") {
  Driven member(0);
  member.pass(3s);  // nobody speaks: both are suspects
  REQUIRE(member.sent<Prepare>(1).size() >= 1);
  const Ballot ballot = member.sent<Prepare>(1).back().ballot;
  member.receive(1, Promise{Epoch{1}, ballot, report_of(1), std::nullopt});
  member.report();
  REQUIRE(member.sent<Accept>(1).size() == 1);
  CHECK(member.sent<Accept>(1)[0].proposal.decision.next == view_of({0, 1}, 2));
}

TEST_CASE("who_ticked_late_suspects_nobody") {
  Driven member(0);
  member.now += 60s;
  member.machine.on_deadline(member.now);
  member.take();
  CHECK(member.sent<Prepare>(1).empty());
  member.pass(2s);
  CHECK(member.sent<Prepare>(1).empty());
}

TEST_CASE("idle_members_exchange_one_heartbeat_per_period") {
  Driven member(0);
  for (int i = 0; i < 10; ++i) {
    member.pass(1s);
    member.receive(1, Heartbeat{Epoch{1}});
    member.receive(2, Heartbeat{Epoch{1}});
  }
  CHECK(member.sent<Heartbeat>(1).size() == 14);  // every 750 ms, and one at the start
  CHECK(member.sent<Prepare>(1).empty());
}

TEST_CASE("a_single_member_has_no_deadline") {
  Driven member(0, view_of({0}));
  CHECK_FALSE(member.machine.next_deadline());
}

TEST_CASE("request_keeps_the_members") {
  Driven member(0, view_of({0, 1}));
  member.machine.request_view_change({StatusCode::timed_out, "operation 3"}, member.now);
  member.take();
  const Ballot ballot = member.sent<Prepare>(1)[0].ballot;
  member.report();
  member.receive(1, Promise{Epoch{1}, ballot, report_of(1), std::nullopt});
  CHECK(member.sent<Accept>(1)[0].proposal.decision.next == view_of({0, 1}, 2));
}

TEST_CASE("a_leaver_is_left_out_without_being_a_failure") {
  Driven member(0);
  member.receive(2, Leave{Epoch{1}});
  const Ballot ballot = member.sent<Prepare>(2)[0].ballot;
  member.report(1);
  member.receive(1, Promise{Epoch{1}, ballot, report_of(2), std::nullopt});
  member.receive(2, Promise{Epoch{1}, ballot, report_of(3), std::nullopt});
  member.receive(1, Accepted{Epoch{1}, ballot});
  REQUIRE(member.all<Install>().size() == 1);
  CHECK(member.all<Install>()[0].next == view_of({0, 1}, 2));
  REQUIRE(member.all<Install>()[0].departures.size() == 1);
  CHECK(member.all<Install>()[0].departures[0].left);
  CHECK(member.sent<Decided>(2).size() == 1);
}

TEST_CASE("a_leaver_ends_with_shut_down") {
  Driven member(2);
  member.machine.leave(member.now);
  member.take();
  CHECK(member.sent<Leave>(0).size() == 1);
  CHECK(member.sent<Leave>(1).size() == 1);
  member.receive(0, Decided{{view_of({0, 1}, 2), {}, {{MemberId{2}, "it left", false, true}}}});
  REQUIRE(member.all<Fence>().size() == 1);
  CHECK(member.all<Fence>()[0].cause.code() == StatusCode::shut_down);
}

TEST_CASE("when_everybody_leaves_nobody_waits") {
  Driven member(0, view_of({0, 1}));
  member.receive(1, Leave{Epoch{1}});
  member.machine.leave(member.now);
  member.take();
  REQUIRE(member.all<Fence>().size() == 1);
  CHECK(member.all<Fence>()[0].cause.code() == StatusCode::shut_down);
}

TEST_CASE("kills_a_suspect_of_its_host_before_it_expels_it") {
  Driven member(1, view_of({0, 1}), options_with(true));
  member.machine.on_link_down(MemberId{0}, member.now);
  member.pass(200ms);
  member.report();
  member.pass(500ms);
  REQUIRE(member.all<Kill>().size() == 1);
  CHECK(member.all<Install>().empty());
  member.die(0, founding_record());
  REQUIRE(member.all<Install>().size() == 1);
  CHECK(member.all<Install>()[0].departures[0].certain);
}

TEST_CASE("fences_when_its_own_word_is_marked") {
  Driven member(1);
  member.die(1, std::nullopt);
  REQUIRE(member.all<Fence>().size() == 1);
}

TEST_CASE("helps_a_member_that_is_behind") {
  Driven member(0, view_of({0, 1, 2}));
  member.die(1, founding_record());
  member.report();
  const Ballot ballot = member.sent<Prepare>(2)[0].ballot;
  member.receive(2, Promise{Epoch{1}, ballot, report_of(1), std::nullopt});
  member.receive(2, Accepted{Epoch{1}, ballot});
  REQUIRE(member.machine.view().epoch == Epoch{2});
  member.actions.clear();
  member.receive(2, Heartbeat{Epoch{1}});
  REQUIRE(member.sent<Decided>(2).size() == 1);
  CHECK(member.sent<Decided>(2)[0].decision.next == view_of({0, 2}, 2));
}

TEST_CASE("tells_members_of_other_hosts_of_a_certain_death") {
  View view = view_of({0, 1, 2});
  view.members[2].host = 8;
  Driven member(0, view);
  member.die(1, founding_record());
  REQUIRE(member.sent<Died>(2).size() == 1);
  CHECK(member.sent<Died>(2)[0].member == MemberId{1});
  CHECK(member.sent<Died>(2)[0].record == encode_record(founding_record()));
}

TEST_CASE("refuses_garbage_and_strangers_without_effect") {
  Driven member(1);
  const std::size_t before = member.actions.size();
  member.machine.on_message(MemberId{0}, report_of(200), member.now);
  member.machine.on_message(MemberId{0}, {}, member.now);
  member.machine.on_message(MemberId{9}, encode_message(Heartbeat{Epoch{1}}), member.now);
  member.receive(0, Prepare{Epoch{1}, ballot_of(1, 2)});        // somebody else's ballot
  member.receive(0, Decided{{view_of({0, 1, 5}, 2), {}, {}}});  // a member from nowhere
  member.receive(0, Decided{{view_of({0, 1, 2}, 2), {}, {}}});  // never promised here
  member.receive(0, Accept{Epoch{1}, {ballot_of(1, 0), {view_of({0, 7}, 2), {}, {}}}});
  member.take();
  CHECK(member.actions.size() == before);
  CHECK(member.machine.refused() == 7);
  CHECK(member.machine.view() == view_of({0, 1, 2}));
}
