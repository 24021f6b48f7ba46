#include "elastic/quorum.h"

#include <catch2/catch.hpp>

using namespace hora;
using namespace hora::elastic;

namespace {

View view_of(int size) {
  View view;
  view.epoch = Epoch{5};
  for (int i = 0; i < size; ++i) view.members.push_back({MemberId{static_cast<std::uint64_t>(i)}, 1, ""});
  return view;
}

std::set<MemberId> votes_of(std::initializer_list<std::uint64_t> ids) {
  std::set<MemberId> votes;
  for (const std::uint64_t id : ids) votes.insert(MemberId{id});
  return votes;
}

struct Living {
  explicit Living(int size) : view(view_of(size)) { peers.enter(view, MemberId{0}, TimePoint{}); }
  void kill(std::uint64_t id, Epoch epoch, Ballot promised) {
    Peer* peer = peers.find(MemberId{id});
    peer->dead = true;
    peer->record = Record{epoch, std::nullopt, promised, std::nullopt};
  }
  View view;
  Detector peers{std::chrono::seconds(3), std::chrono::milliseconds(200)};
};

const Ballot kBallot{7, MemberId{0}};

}  // namespace

TEST_CASE("a_majority_counts_the_dead") {
  CHECK(is_majority(view_of(1), votes_of({0})));
  CHECK(is_majority(view_of(3), votes_of({1, 2})));
  CHECK_FALSE(is_majority(view_of(5), votes_of({3, 4})));
  CHECK_FALSE(is_majority(view_of(3), votes_of({})));
}

TEST_CASE("half_is_enough_with_the_first_member") {
  CHECK(is_majority(view_of(2), votes_of({0})));
  CHECK_FALSE(is_majority(view_of(2), votes_of({1})));
  CHECK(is_majority(view_of(4), votes_of({0, 3})));
  CHECK_FALSE(is_majority(view_of(4), votes_of({1, 2})));
}

TEST_CASE("strangers_do_not_vote") {
  CHECK_FALSE(is_majority(view_of(3), votes_of({0, 8, 9})));
}

TEST_CASE("the_dead_vote_through_their_records") {
  Living group(3);
  group.kill(1, Epoch{5}, {});
  group.kill(2, Epoch{4}, {99, MemberId{1}});  // it had not come to this view: it promised nothing in it
  CHECK(is_all_living(group.view, kBallot, votes_of({0}), group.peers));
}

TEST_CASE("a_dead_one_without_a_record_does_not_vote") {
  Living group(3);
  group.kill(1, Epoch{5}, {});
  group.peers.find(MemberId{2})->dead = true;
  CHECK_FALSE(is_all_living(group.view, kBallot, votes_of({0}), group.peers));
}

TEST_CASE("a_dead_one_that_promised_more_does_not_vote") {
  Living group(2);
  group.kill(1, Epoch{5}, {8, MemberId{1}});
  CHECK_FALSE(is_all_living(group.view, kBallot, votes_of({0}), group.peers));
  CHECK(is_all_living(group.view, {9, MemberId{0}}, votes_of({0}), group.peers));
}

TEST_CASE("a_suspect_is_not_dead") {
  Living group(2);
  group.peers.find(MemberId{1})->suspicion = "silent";
  CHECK_FALSE(is_all_living(group.view, kBallot, votes_of({0}), group.peers));
}
