#include "launch/outcome.h"

#include <catch2/catch.hpp>

namespace hora::launch {
namespace {

constexpr Exit kSuccess{0, 0};
constexpr Exit kFailed{3, 0};
constexpr Exit kKilled{0, 9};

Outcome::Limits limits(int ranks, int min_ranks, int restarts = 0) {
  return {ranks, min_ranks, restarts};
}

TEST_CASE("a job succeeds when enough ranks do") {
  Outcome outcome(limits(3, 2));
  outcome.ended(1, kKilled);
  CHECK_FALSE(outcome.hopeless());
  outcome.ended(0, kSuccess);
  CHECK(outcome.running() == 1);
  CHECK_FALSE(outcome.running(0));
  CHECK(outcome.running(2));
  CHECK_FALSE(outcome.over());
  outcome.ended(2, kSuccess);
  CHECK(outcome.running() == 0);
  CHECK(outcome.over());
  CHECK(outcome.status() == 0);
}

TEST_CASE("a job is hopeless as soon as too few can still succeed") {
  Outcome outcome(limits(4, 3));
  outcome.ended(3, kFailed);
  CHECK_FALSE(outcome.hopeless());
  outcome.ended(0, kSuccess);
  CHECK_FALSE(outcome.hopeless());
  outcome.ended(1, kKilled);
  CHECK(outcome.hopeless());
  CHECK(outcome.running() == 1);
}

TEST_CASE("a failed job has the status of the first rank that failed") {
  Outcome outcome(limits(3, 3));
  outcome.ended(0, kSuccess);
  outcome.ended(2, kKilled);
  outcome.ended(1, kFailed);
  CHECK(outcome.status() == 137);
  Outcome other(limits(2, 2));
  other.ended(1, kFailed);
  other.ended(0, Exit{4, 0});
  CHECK(other.status() == 3);
}

TEST_CASE("who was killed or lost goes before who exited") {
  for (const Exit& struck : {kKilled, Exit{0, 0, true}}) {
    Outcome outcome(limits(3, 3));
    outcome.ended(1, kFailed);  // too few are left, it found
    outcome.ended(0, struck);
    outcome.ended(2, Exit{0, 11});
    CHECK(outcome.status() == struck.status());
  }
}

TEST_CASE("who was killed by the job does not go before who exited") {
  Outcome outcome(limits(3, 3));
  outcome.ended(1, kFailed);
  outcome.ended(0, kKilled, true);
  outcome.ended(2, Exit{0, 15}, true);
  CHECK(outcome.status() == 3);
}

TEST_CASE("the dead are replaced while restarts are left") {
  Outcome outcome(limits(3, 3, 2));
  for (int restart = 1; restart <= 2; ++restart) {
    outcome.ended(2, kKilled);
    CHECK(outcome.hopeless());
    REQUIRE(outcome.replaceable(2));
    outcome.await(2);
    CHECK(outcome.restarts() == restart);
    CHECK(outcome.awaited(2));
    CHECK_FALSE(outcome.hopeless());
    CHECK_FALSE(outcome.over());
    outcome.started(2);
    CHECK(outcome.running() == 3);
  }
  outcome.ended(2, kFailed);
  CHECK_FALSE(outcome.replaceable(2));
  CHECK(outcome.hopeless());
  CHECK(outcome.status() == 3);
}

TEST_CASE("a failure that was replaced is not the job's") {
  Outcome outcome(limits(2, 2, 1));
  outcome.ended(0, kKilled);
  outcome.await(0);
  outcome.started(0);
  outcome.ended(1, kFailed);
  outcome.ended(0, kKilled, true);
  CHECK(outcome.status() == 3);

  Outcome lucky(limits(2, 2, 1));
  lucky.ended(0, kKilled);
  lucky.await(0);
  lucky.started(0);
  lucky.ended(1, kSuccess);
  lucky.ended(0, kSuccess);
  CHECK(lucky.over());
  CHECK(lucky.status() == 0);
}

TEST_CASE("nobody is replaced where there is no job to join") {
  SECTION("because all have died") {
    Outcome outcome(limits(2, 1, 5));
    outcome.ended(0, kKilled);
    outcome.await(0);
    outcome.ended(1, kFailed);
    CHECK_FALSE(outcome.replaceable(1));
    CHECK_FALSE(outcome.awaited(0));
    CHECK(outcome.over());
    CHECK(outcome.status() == 137);
  }
  SECTION("because it is ending") {
    Outcome outcome(limits(3, 1, 5));
    outcome.ended(0, kKilled);
    outcome.await(0);
    outcome.ended(1, kSuccess);
    CHECK_FALSE(outcome.awaited(0));
    outcome.ended(2, kKilled);
    CHECK_FALSE(outcome.replaceable(2));
    CHECK(outcome.status() == 0);
  }
  SECTION("because it is given up") {
    Outcome outcome(limits(3, 3, 5));
    outcome.ended(0, kKilled);
    outcome.await(0);
    outcome.give_up_all();
    CHECK(outcome.hopeless());
    CHECK(outcome.running() == 2);
  }
}

TEST_CASE("a replacement that fails at once is replaced later and later") {
  using std::chrono::milliseconds;
  CHECK(replacement_delay(0) == Duration::zero());
  CHECK(replacement_delay(1) == milliseconds(100));
  CHECK(replacement_delay(2) == milliseconds(200));
  CHECK(replacement_delay(6) == milliseconds(3200));
  CHECK(replacement_delay(7) == milliseconds(5000));
  CHECK(replacement_delay(1'000'000) == milliseconds(5000));
}

TEST_CASE("an exit tells how it came") {
  CHECK(kSuccess.success());
  CHECK_FALSE(kFailed.success());
  CHECK_FALSE(kKilled.success());
  CHECK(describe(kFailed) == "exited with status 3");
  CHECK(describe(kKilled) == "was killed by SIGKILL");
  constexpr Exit kLost{0, 0, true};
  CHECK_FALSE(kLost.success());
  CHECK(kLost.status() == 255);
  CHECK(describe(kLost) == "was lost with its host");
}

}  // namespace
}  // namespace hora::launch
