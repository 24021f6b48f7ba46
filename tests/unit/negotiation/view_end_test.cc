// The end of a view: what some members know to be rejected is rejected for all that go on.
#include <catch2/catch.hpp>

#include "cluster.h"

using namespace hora;
using namespace hora::negotiation;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""min;

namespace {

constexpr NegotiatorOptions kLimits{.stall_warning = 10s, .operation_timeout = 1min};

// What the members of `ranks` report together, as the verdict of a view change hands it to each of them.
std::vector<Reject> reported(Cluster& cluster, std::initializer_list<int> ranks) {
  std::vector<Reject> all;
  for (const int rank : ranks)
    for (Reject& reject : cluster.negotiator(rank).rejections()) all.push_back(std::move(reject));
  return all;
}

// Rank 0 has told everybody, and rank 1 has heard it; then rank 0 dies.
void reach_rank_1_only(Cluster& cluster) {
  while (cluster.deliver_message(0, 1)) {
  }
}

}  // namespace

TEST_CASE("a rejection that one survivor has heard reaches all of them", "[view_end]") {
  Cluster cluster({.size = 3, .board_capacity = std::nullopt, .limits = kLimits});
  for (int rank = 0; rank < 3; ++rank) (void)cluster.submit(rank, "w", allreduce(rank == 2 ? 5 : 4));
  for (const int rank : {1, 2}) cluster.deliver_message(rank, 0);
  cluster.poll(0);
  reach_rank_1_only(cluster);
  REQUIRE(cluster.last(1, "w").code == StatusCode::mismatch);
  REQUIRE(cluster.negotiator(2).in_flight() == 1);

  const std::vector<Reject> rejections = reported(cluster, {1, 2});
  REQUIRE(rejections.size() == 1);
  CHECK(cluster.negotiator(1).conclude(rejections).empty());
  CHECK(cluster.negotiator(2).conclude(rejections).empty());
  CHECK_FALSE(cluster.negotiator(1).has_actions());  // it has ended there
  const Actions actions = cluster.negotiator(2).take_actions();
  REQUIRE(actions.failures.size() == 1);
  CHECK(cluster.negotiator(2).name_of(actions.failures[0].entry) == "w");
  CHECK(actions.failures[0].status.code() == StatusCode::mismatch);
  CHECK(actions.failures[0].status.message() == cluster.last(1, "w").text);
  CHECK(cluster.negotiator(2).in_flight() == 0);
}

TEST_CASE("submissions that were rejected before they were made are left over", "[view_end]") {
  Cluster cluster({.size = 3, .board_capacity = std::nullopt, .limits = kLimits});
  for (int round = 0; round < 2; ++round) {
    for (const int rank : {0, 1}) (void)cluster.submit(rank, "w", allreduce(4));
    cluster.deliver_message(1, 0);
    cluster.poll(0);
    cluster.advance(2min);
    reach_rank_1_only(cluster);
    REQUIRE(cluster.last(1, "w").code == StatusCode::timed_out);
  }
  const std::vector<Reject> rejections = reported(cluster, {1, 2});
  CHECK(cluster.negotiator(1).conclude(rejections).empty());
  const std::vector<Rejection> left = cluster.negotiator(2).conclude(rejections);
  REQUIRE(left.size() == 1);
  CHECK(left[0].name == "w");
  CHECK(left[0].submissions == 2);
  CHECK(left[0].status.code() == StatusCode::timed_out);
}

TEST_CASE("what was executed is not rejected", "[view_end]") {
  Cluster cluster({.size = 2, .board_capacity = std::nullopt, .limits = kLimits});
  cluster.submit_everywhere("w", allreduce(4));
  cluster.settle();
  (void)cluster.submit(0, "w", allreduce(4));
  (void)cluster.submit(1, "w", allreduce(5));
  cluster.settle();
  REQUIRE(cluster.last(1, "w").code == StatusCode::mismatch);
  cluster.submit_everywhere("w", allreduce(4));
  cluster.settle();
  REQUIRE(cluster.last(1, "w").group == 2);
  CHECK(reported(cluster, {0, 1}).empty());  // a long view does not gather what all have heard
  CHECK(cluster.negotiator(1).conclude(reported(cluster, {0, 1})).empty());
  CHECK_FALSE(cluster.negotiator(1).has_actions());
}
