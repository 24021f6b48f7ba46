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

std::vector<Schedule> schedules_of(const Algorithm& algorithm, int size, std::uint64_t count, Rank root,
                                   std::span<const int> hosts = {}) {
  std::vector<Schedule> schedules;
  for (int rank = 0; rank < size; ++rank)
    schedules.push_back(algorithm.generate({Rank{rank}, size, count, root, hosts}));
  return schedules;
}

std::vector<Plan> plans_of(const Algorithm& algorithm, int size, std::uint64_t count, Rank root,
                           std::span<const int> hosts, std::uint64_t segment_count, bool half = false) {
  std::vector<Plan> plans;
  for (int rank = 0; rank < size; ++rank)
    plans.push_back(make_plan(algorithm, {Rank{rank}, size, count, root, hosts, half}, segment_count));
  return plans;
}

// By rank: hosts of one rank and of several, even and not, and ranks of a host that are no neighbours.
const std::vector<std::vector<int>> kTopologies = {
    {0},
    {0, 0},
    {0, 1},
    {0, 1, 1, 1},
    {0, 0, 1, 1},
    {0, 1, 0, 1, 0},
    {0, 0, 0, 1, 1, 2},
    {0, 0, 1, 1, 2, 2, 3, 3},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 8},
    {0, 0, 0, 0, 0, 1, 1},
    {0, 1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 8, 9, 9},
};

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

TEST_CASE("every_plan_is_sound_over_links_that_hold_nothing") {
  for (const Algorithm& algorithm : algorithms())
    for (const std::vector<int>& hosts : kTopologies) {
      const int size = static_cast<int>(hosts.size());
      for (const std::uint64_t count : {0, 1, 7, 40, 101})
        for (const std::uint64_t segment_count : {1, 3, 10, 1000})
          for (int root = 0; root < (algorithm.kind == Collective::broadcast ? size : 1); ++root) {
            INFO(to_string(algorithm.kind)
                 << " " << algorithm.name << " on " << Catch::Detail::stringify(hosts) << ", root " << root
                 << ", count " << count << " in segments of " << segment_count);
            for (const bool half : {false, true}) {
              const auto plans = plans_of(algorithm, size, count, Rank{root}, hosts, segment_count, half);
              CHECK(find_fault(algorithm.kind, plans, count, Rank{root}) == "");
            }
          }
    }
}

// What travels between hosts is what must: each host's share of the others, not each rank's.
TEST_CASE("two_levels_send_no_more_between_hosts_than_one_rank_of_each_would") {
  constexpr std::uint64_t kCount = 1200;
  const std::vector<int> hosts = {0, 0, 0, 1, 1, 1};
  std::uint64_t between = 0;
  for (int rank = 0; rank < 6; ++rank) {
    const Schedule schedule = two_level_allreduce({Rank{rank}, 6, kCount, Rank{0}, hosts});
    std::uint64_t sent = 0;
    for (const Move& move : schedule.moves)
      if (move.action == Action::send &&
          hosts[static_cast<std::size_t>(move.peer.value)] != hosts[static_cast<std::size_t>(rank)])
        sent += schedule.sources_of(move)[0].count;
    CHECK(sent == kCount / 3);  // its own slice
    between += sent;
  }
  CHECK(between == 2 * kCount);
}

TEST_CASE("the_chosen_algorithm_exists_and_depends_on_size_and_bytes") {
  std::set<std::string> chosen;
  for (int kind = 0; kind < kCollectiveCount; ++kind)
    for (const int size : {1, 2, 3, 8, 9, 64})
      for (const std::uint64_t bytes : {0ULL, 1ULL, 8192ULL, 8193ULL, 1ULL << 20, 1ULL << 30}) {
        std::vector<int> pairs;  // two ranks on each host
        for (int rank = 0; rank < size; ++rank) pairs.push_back(rank / 2);
        for (const std::span<const int> hosts : {std::span<const int>(), std::span<const int>(pairs)}) {
          const Algorithm& algorithm = select(static_cast<Collective>(kind), size, hosts, DataType::float32, bytes);
          REQUIRE(algorithm.kind == static_cast<Collective>(kind));
          chosen.insert(std::string(to_string(algorithm.kind)) + " " + algorithm.name);
        }
      }
  CHECK(chosen.size() == algorithms().size());
}

// Once for each level, and whatever is added to another sum was divided before.
TEST_CASE("half_types_are_rounded_once_on_the_host_and_once_between_hosts") {
  for (const std::vector<int>& hosts : kTopologies)
    for (const std::uint64_t count : {1, 1001, 5'000'000}) {
      const int size = static_cast<int>(hosts.size());
      const Algorithm& chosen = select(Collective::allreduce, size, hosts, DataType::float16, 2 * count);
      INFO(chosen.name << " on " << Catch::Detail::stringify(hosts) << ", count " << count);
      for (int rank = 0; rank < size; ++rank) {
        const Schedule schedule = chosen.generate({Rank{rank}, size, count, Rank{0}, hosts, true});
        std::set<std::uint32_t> rounds;
        for (const Move& move : schedule.moves) {
          if (move.action != Action::reduce) continue;
          rounds.insert(move.round);
          const bool first = move.round == schedule.moves.front().round;
          CHECK(move.divides == first);
          CHECK((first || move.last));
        }
        CHECK(rounds.size() <= (chosen.generate == two_level_allreduce ? 2 : 1));
      }
    }
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
    for (Move& move : schedules[1].moves) move.divides = false;
    CHECK(fault() != "");
  }
  SECTION("operands in another order on one rank") {
    std::vector<Schedule> direct = schedules_of(named(Collective::allreduce, "direct"), 3, 9, Rank{0});
    std::swap(direct[1].sources[direct[1].sources.size() - 1], direct[1].sources[direct[1].sources.size() - 2]);
    CHECK_THAT(find_fault(Collective::allreduce, direct, 9, Rank{0}), Catch::Contains("another order"));
  }
  SECTION("a plan whose rounds are not the other's") {
    std::vector<Plan> plans = plans_of(ring, 3, 90, Rank{0}, {}, 9);
    REQUIRE(find_fault(Collective::allreduce, plans, 90, Rank{0}) == "");
    const std::vector<Plan> cut_otherwise = plans_of(ring, 3, 90, Rank{0}, {}, 10);
    plans[1] = cut_otherwise[1];
    CHECK(find_fault(Collective::allreduce, plans, 90, Rank{0}) != "");
  }
  SECTION("transfers of a round that disturb each other") {
    std::vector<Plan> plans = plans_of(ring, 3, 9, Rank{0}, {}, 9);
    for (Move& move : plans[1].schedule.moves)
      if (move.action == Action::receive) move.target.buffer = Buffer::result;
    CHECK(find_fault(Collective::allreduce, plans, 9, Rank{0}) != "");
  }
  SECTION("an input counted twice") {
    schedules[1].sources[find(Action::reduce).first_source] =
        schedules[1].sources[find(Action::reduce).first_source + 1];
    CHECK(fault() != "");
  }
}

}  // namespace
}  // namespace hora::collectives
