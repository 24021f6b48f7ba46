// Every algorithm, for every rank count and the counts where slices are empty, equal or uneven.
#include <algorithm>
#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "collectives/algorithms.h"
#include "schedule_validator.h"

namespace hora::collectives {
namespace {

constexpr int kSizeMax = 17;

std::vector<Schedule> schedules_of(const Algorithm& algorithm, int size, std::uint64_t count, Rank root) {
  std::vector<Schedule> schedules;
  for (int rank = 0; rank < size; ++rank) schedules.push_back(algorithm.generate({Rank{rank}, size, count, root}));
  return schedules;
}

std::string fault_of(const Algorithm& algorithm, int size, std::uint64_t count, Rank root) {
  return find_fault(algorithm.kind, schedules_of(algorithm, size, count, root), count, root);
}

const Algorithm& named(Collective kind, const std::string& name) {
  const auto all = algorithms();
  return *std::ranges::find_if(all, [&](const Algorithm& a) { return a.kind == kind && a.name == name; });
}

TEST_CASE("every_algorithm_is_sound_for_every_size_and_count") {
  for (const Algorithm& algorithm : algorithms()) {
    for (int size = 1; size <= kSizeMax; ++size) {
      const auto n = static_cast<std::uint64_t>(size);
      for (const std::uint64_t count : std::set<std::uint64_t>{0, 1, n - 1, n, n + 1, 5 * n + 3, 100}) {
        const int roots = algorithm.kind == Collective::broadcast ? size : 1;
        for (int root = 0; root < roots; ++root) {
          INFO(to_string(algorithm.kind) << " " << algorithm.name << ", count " << count << ", root " << root);
          CHECK(fault_of(algorithm, size, count, Rank{root}) == "");
        }
      }
    }
  }
}

TEST_CASE("the_chosen_algorithm_exists_and_depends_on_size_and_bytes") {
  std::set<std::string> chosen;
  for (int kind = 0; kind < kCollectiveCount; ++kind)
    for (const int size : {1, 2, 3, 8, 9, 64})
      for (const std::uint64_t bytes : {0ULL, 1ULL, 8192ULL, 8193ULL, 1ULL << 20, 1ULL << 30}) {
        const Algorithm& algorithm = select(static_cast<Collective>(kind), size, bytes);
        REQUIRE(algorithm.kind == static_cast<Collective>(kind));
        chosen.insert(std::string(to_string(algorithm.kind)) + " " + algorithm.name);
      }
  CHECK(chosen.size() == algorithms().size());
}

TEST_CASE("a_ring_sends_to_its_neighbour_only_and_no_more_than_twice_the_data") {
  for (int rank = 0; rank < 5; ++rank) {
    std::uint64_t sent = 0;
    const Schedule schedule = ring_allreduce({Rank{rank}, 5, 1000});
    for (const Move& move : schedule.moves) {
      if (move.action != Action::send) continue;
      CHECK(move.peer.value == (rank + 1) % 5);
      sent += schedule.sources_of(move)[0].count;
    }
    CHECK(sent == 2 * 4 * 200);
  }
}

// The validator itself: each fault that it promises to find.
TEST_CASE("the_validator_finds_faults") {
  const Algorithm& ring = named(Collective::allreduce, "ring");
  std::vector<Schedule> schedules = schedules_of(ring, 3, 9, Rank{0});
  const auto fault = [&] { return find_fault(Collective::allreduce, schedules, 9, Rank{0}); };
  const auto find = [&](Action action) -> Move& {
    return *std::ranges::find(schedules[1].moves, action, &Move::action);
  };
  REQUIRE(fault() == "");
  SECTION("a lost receive") {
    schedules[1].moves.erase(std::ranges::find(schedules[1].moves, Action::receive, &Move::action));
    CHECK(fault() != "");
  }
  SECTION("a missing last move") {
    schedules[1].moves.pop_back();
    CHECK_THAT(fault(), Catch::Contains("nobody receives"));
  }
  SECTION("everybody receives first") {
    for (Schedule& schedule : schedules) std::swap(schedule.moves[0], schedule.moves[1]);
    CHECK_THAT(fault(), Catch::Contains("waits for ever"));
  }
  SECTION("a region outside its buffer") {
    find(Action::receive).target.offset = 7;
    CHECK_THAT(fault(), Catch::Contains("leaves a buffer"));
  }
  SECTION("another length") {
    find(Action::receive).target.count = 2;
    CHECK_THAT(fault(), Catch::Contains("another length"));
  }
  SECTION("an average that is not divided") {
    for (Move& move : schedules[1].moves) move.last = false;
    CHECK(fault() != "");
  }
  SECTION("operands in another order on one rank") {
    std::vector<Schedule> direct = schedules_of(named(Collective::allreduce, "direct"), 3, 9, Rank{0});
    std::swap(direct[1].sources[direct[1].sources.size() - 1], direct[1].sources[direct[1].sources.size() - 2]);
    CHECK_THAT(find_fault(Collective::allreduce, direct, 9, Rank{0}), Catch::Contains("another order"));
  }
  SECTION("an input counted twice") {
    schedules[1].sources[find(Action::reduce).first_source] =
        schedules[1].sources[find(Action::reduce).first_source + 1];
    CHECK(fault() != "");
  }
}

}  // namespace
}  // namespace hora::collectives
