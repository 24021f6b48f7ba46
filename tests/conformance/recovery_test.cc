// Ranks die at every point of every collective; the survivors agree on every operation, and go on.
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "base/random.h"
#include "recovery_world.h"

namespace hora::conformance {
namespace {

constexpr std::uint64_t kSmall = 3;                          // fits a flag line
constexpr std::uint64_t kMedium = kChunkBytes / 8 / 8;       // fits one stage
constexpr std::uint64_t kLarge = 5 * (kChunkBytes / 8) + 1;  // several chunks
constexpr int kMovesMost = 5'000;                            // a rank that needs more hangs

using Tasks = std::array<std::vector<Task>, kChannelCount>;

Tasks mixed_tasks() {
  const auto allreduce = [](std::uint64_t count, bool in_place) {
    return Task{Collective::allreduce, count, in_place};
  };
  return {{
      {allreduce(kSmall, true),
       allreduce(kLarge, true),
       {Collective::barrier},
       allreduce(kMedium, false),
       {Collective::broadcast, kLarge, true, 1},
       allreduce(kSmall, false)},
      {allreduce(kMedium, true), {Collective::allgather, kMedium}, allreduce(kLarge, false), allreduce(kLarge, true)},
  }};
}

// One operation between two small ones, on one channel.
Tasks single_task(const Task& task) {
  return {{{{Collective::allreduce, kSmall, true}, task, {Collective::allreduce, kSmall, true}}, {}}};
}

// Runs until `victim` has made `moves` moves. False when it was through before.
bool run_until(RecoveryWorld& world, int victim, int moves) {
  for (int i = 0; i < kMovesMost && world.moves_of(victim) < moves; ++i) world.move_any(4);
  return world.moves_of(victim) >= moves;
}

struct Failure {
  const Implementation& implementation;
  int size;
  int victim;
  std::uint64_t seed;
};

std::string describe(const Failure& failure, int moves) {
  return std::string(failure.implementation.name) + ", size " + std::to_string(failure.size) + ", rank " +
         std::to_string(failure.victim) + " dies after " + std::to_string(moves) + " moves, seed " +
         std::to_string(failure.seed);
}

// The victim dies after 0, 1, 2, ... moves, until it lives to the end of its tasks; the survivors go on for a while
// before the view changes. Returns how many operations were broken altogether.
int sweep(const Failure& failure, const Tasks& tasks, int stride) {
  int broken = 0;
  for (int moves = 0;; moves += stride) {
    INFO(describe(failure, moves));
    Random random(failure.seed + static_cast<std::uint64_t>(moves));
    RecoveryWorld world(failure.implementation, failure.size, tasks, random.next());
    if (!run_until(world, failure.victim, moves)) return broken;
    world.stop(failure.victim, random.chance(1, 2));
    world.move_any(static_cast<int>(random.below(40)));
    world.recover(static_cast<int>(random.below(10)));
    REQUIRE(world.finish());
    REQUIRE(world.fault() == "");
    broken += world.count(Outcome::Kind::broken);
  }
}

TEST_CASE("survivors_agree_wherever_one_rank_dies", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (const int size : {2, 3, 5})
      for (const int victim : {0, 1, size - 1})
        sweep({implementation, size, victim, 1000}, mixed_tasks(), static_cast<int>(implementation.cost));
}

TEST_CASE("a_broadcast_is_broken_only_with_its_root", "[elastic]") {
  const auto tasks = single_task({Collective::broadcast, kLarge, false, 1});
  for (const Implementation& implementation : elastic_implementations()) {
    CHECK(sweep({implementation, 4, 1, 1}, tasks, 1) > 0);
    CHECK(sweep({implementation, 4, 2, 1}, tasks, 1) == 0);
  }
}

TEST_CASE("an_allgather_that_was_started_and_never_done_is_broken", "[elastic]") {
  const auto tasks = single_task({Collective::allgather, kMedium});
  for (const Implementation& implementation : elastic_implementations())
    CHECK(sweep({implementation, 3, 2, 1}, tasks, 1) > 0);
}

TEST_CASE("an_allreduce_is_never_broken", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (const std::uint64_t count : {kSmall, kMedium, kLarge})
      for (const bool in_place : {false, true})
        CHECK(sweep({implementation, 3, 1, 1}, single_task({Collective::allreduce, count, in_place}), 1) == 0);
}

// So long that links are full and messages cut when a rank dies, and forwarded results as well.
TEST_CASE("survivors_agree_when_a_rank_dies_amid_long_messages", "[elastic]") {
  constexpr std::uint64_t kLong = 90'000;
  for (const Implementation& implementation : elastic_implementations())
    for (const bool in_place : {false, true})
      CHECK(sweep({implementation, 3, 1, 5}, single_task({Collective::allreduce, kLong, in_place}), 9) == 0);
}

// It may take the only copy of a result along. Where the others cannot read its memory they do the operation again.
TEST_CASE("survivors_agree_wherever_one_rank_leaves", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (const int size : {2, 3})
      for (const int leaver : {0, size - 1})
        for (int moves = 0;; moves += static_cast<int>(implementation.cost)) {
          INFO(describe({implementation, size, leaver, 2000}, moves) << " (it leaves)");
          Random random(2000 + static_cast<std::uint64_t>(moves));
          RecoveryWorld world(implementation, size, mixed_tasks(), random.next());
          if (!run_until(world, leaver, moves)) break;
          world.leave(leaver, random.chance(1, 2));
          world.move_any(static_cast<int>(random.below(10)));
          world.recover(static_cast<int>(random.below(10)));
          REQUIRE(world.finish());
          REQUIRE(world.fault() == "");
        }
}

TEST_CASE("a_mismatch_known_to_one_survivor_is_known_to_all", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (const int victim : {0, 1, 2}) {
      Task task{Collective::allreduce, kMedium, true};
      task.deviant = 1;
      sweep({implementation, 3, victim, 1}, single_task(task), 1);
    }
}

// Who has the second failure in mind: the forwarder, the one that is behind, and ranks that have not installed yet.
TEST_CASE("survivors_agree_when_a_second_rank_dies_during_recovery", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (std::uint64_t seed = 0; seed < 600; seed += implementation.cost) {
      Random random(seed);
      const int size = 3 + static_cast<int>(random.below(3));
      const auto any_rank = [&] { return static_cast<int>(random.below(static_cast<std::uint64_t>(size))); };
      const int first = any_rank();
      int second = any_rank();
      if (second == first) second = (first + 1) % size;
      INFO(implementation.name << ", seed " << seed << ", size " << size << ", ranks " << first << " and " << second);
      RecoveryWorld world(implementation, size, mixed_tasks(), random.next());
      run_until(world, first, static_cast<int>(random.below(150)));
      world.stop(first, random.chance(1, 2));
      world.move_any(static_cast<int>(random.below(40)));
      const auto installs = static_cast<int>(random.below(static_cast<std::uint64_t>(size)));
      const bool during = random.chance(2, 3);
      if (during) {
        world.recover(static_cast<int>(random.below(10)), RecoveryWorld::SecondStop{second, installs});
      } else {
        world.recover(static_cast<int>(random.below(10)));
        world.move_any(static_cast<int>(random.below(40)));
      }
      // With as many installs as survivors the second rank outlives the first recovery.
      if (!during || installs >= size - 1) world.stop(second, random.chance(1, 2));
      world.move_any(static_cast<int>(random.below(20)));
      world.recover(static_cast<int>(random.below(10)));
      REQUIRE(world.finish());
      REQUIRE(world.fault() == "");
    }
}

TEST_CASE("two_ranks_may_die_at_once", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (std::uint64_t seed = 0; seed < 300; seed += implementation.cost) {
      INFO(implementation.name << ", seed " << seed);
      Random random(seed);
      RecoveryWorld world(implementation, 4, mixed_tasks(), random.next());
      run_until(world, 1, static_cast<int>(random.below(150)));
      world.stop(1, random.chance(1, 2));
      world.move_any(static_cast<int>(random.below(20)));
      world.stop(3, random.chance(1, 2));
      world.move_any(static_cast<int>(random.below(20)));
      world.recover(static_cast<int>(random.below(10)));
      REQUIRE(world.finish());
      REQUIRE(world.fault() == "");
    }
}

}  // namespace
}  // namespace hora::conformance
