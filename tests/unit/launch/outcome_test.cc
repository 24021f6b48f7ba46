#include "launch/outcome.h"

#include <catch2/catch.hpp>

namespace hora::launch {
namespace {

constexpr Exit kSuccess{0, 0};
constexpr Exit kFailed{3, 0};
constexpr Exit kKilled{0, 9};

TEST_CASE("a job succeeds when enough ranks do") {
  Outcome outcome(3, 2);
  outcome.ended(1, kKilled);
  CHECK_FALSE(outcome.hopeless());
  outcome.ended(0, kSuccess);
  CHECK(outcome.running() == 1);
  CHECK_FALSE(outcome.running(0));
  CHECK(outcome.running(2));
  outcome.ended(2, kSuccess);
  CHECK(outcome.running() == 0);
  CHECK(outcome.status() == 0);
}

TEST_CASE("a job is hopeless as soon as too few can still succeed") {
  Outcome outcome(4, 3);
  outcome.ended(3, kFailed);
  CHECK_FALSE(outcome.hopeless());
  outcome.ended(0, kSuccess);
  CHECK_FALSE(outcome.hopeless());
  outcome.ended(1, kKilled);
  CHECK(outcome.hopeless());
  CHECK(outcome.running() == 1);
}

TEST_CASE("a failed job has the status of the first rank that failed") {
  Outcome outcome(3, 3);
  outcome.ended(0, kSuccess);
  outcome.ended(2, kKilled);
  outcome.ended(1, kFailed);
  CHECK(outcome.status() == 137);
  Outcome other(2, 2);
  other.ended(1, kFailed);
  other.ended(0, kKilled);
  CHECK(other.status() == 3);
}

TEST_CASE("an exit tells how it came") {
  CHECK(kSuccess.success());
  CHECK_FALSE(kFailed.success());
  CHECK_FALSE(kKilled.success());
  CHECK(describe(kFailed) == "exited with status 3");
  CHECK(describe(kKilled) == "was killed by signal 9 (Killed)");
}

}  // namespace
}  // namespace hora::launch
