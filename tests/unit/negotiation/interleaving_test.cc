// Random schedules: whatever the order of submissions, messages, stores and executions, all members execute the same
// groups in the same order, and every submission ends exactly once, the same way everywhere.
// A failure names its seed; `unit_negotiation "[interleaving]" -c "seed N"` replays it alone.
#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <set>

#include "cluster.h"

using namespace hora;
using namespace hora::negotiation;
using std::chrono_literals::operator""s;

namespace {

constexpr int kStepsMax = 2'000'000;

// What each rank submits as round `round` of tensor `name`; some rank sometimes disagrees.
class Script {
 public:
  Script(Random& random, int size)
      : tensors(1 + static_cast<int>(random.below(12))), rounds(1 + static_cast<int>(random.below(6))) {
    for (int tensor = 0; tensor < tensors; ++tensor) {
      Signature agreed = any(random);
      for (int round = 0; round < rounds; ++round) {
        if (random.chance(1, 4)) agreed = any(random);
        for (int rank = 0; rank < size; ++rank)
          requests_[{tensor, round, rank}] = random.chance(1, 40) ? any(random) : agreed;
      }
    }
  }

  [[nodiscard]] static std::string name(int tensor) { return fmt::format("tensor{}", tensor); }
  [[nodiscard]] const Signature& request(int tensor, int round, int rank) const {
    return requests_.at({tensor, round, rank});
  }
  [[nodiscard]] bool agreed(int tensor, int round, int size) const {
    for (int rank = 1; rank < size; ++rank)
      if (request(tensor, round, rank) != request(tensor, round, 0)) return false;
    return true;
  }

  int tensors;
  int rounds;

 private:
  static Signature any(Random& random) {
    const std::uint64_t count = random.below(20);
    switch (random.below(6)) {
      case 0: return {};
      case 1:
        return {.kind = Collective::broadcast, .dtype = DataType::int8, .op = {}, .root = Rank{0}, .count = count};
      case 2:
        return {.kind = Collective::allgather, .dtype = DataType::int8, .op = {}, .root = Rank{0}, .count = count};
      case 3: return allreduce(count, DataType::float64);
      default: return allreduce(count);
    }
  }

  std::map<std::tuple<int, int, int>, Signature> requests_;
};

class Run {
 public:
  Run(std::uint64_t seed, bool timeouts)
      : random_(seed), timeouts_(timeouts), options_(choose()), cluster_(options_), script_(random_, options_.size) {}

  void drive() {
    for (int step = 0; step < kStepsMax; ++step) {
      if (random_.chance(1, 8)) submit();
      if (timeouts_ && random_.chance(1, 50)) cluster_.advance(std::chrono::seconds(random_.below(20)));
      cluster_.step(random_);
      if (step % 64 == 0 && ended()) return;
    }
    FAIL("does not end");
  }

  void check() const {
    for (int rank = 0; rank < cluster_.size(); ++rank) {
      const Cluster::Node& node = cluster_.node(rank);
      REQUIRE(node.groups == cluster_.node(0).groups);
      for (int tensor = 0; tensor < script_.tensors; ++tensor) check(rank, tensor);
    }
    for (const Cluster::Group& group : cluster_.node(0).groups) check(group);
  }

 private:
  ClusterOptions choose() {
    ClusterOptions options;
    options.size = 1 + static_cast<int>(random_.below(5));
    options.board_capacity = static_cast<std::uint32_t>(random_.below(16));
    if (random_.chance(1, 4)) options.board_capacity.reset();
    const std::uint64_t fusion_bytes[] = {0, 64, 256, 1 << 20};
    options.fusion_bytes = fusion_bytes[random_.below(4)];
    options.limits = {.stall_warning = 10s, .operation_timeout = 60s};
    return options;
  }

  void submit() {
    const int rank = static_cast<int>(random_.below(static_cast<std::uint64_t>(cluster_.size())));
    const int tensor = static_cast<int>(random_.below(static_cast<std::uint64_t>(script_.tensors)));
    int& submitted = submitted_[{rank, tensor}];
    const auto& outcomes = cluster_.node(rank).outcomes;
    const auto ended = outcomes.find(Script::name(tensor));
    const int rounds_ended = ended == outcomes.end() ? 0 : static_cast<int>(ended->second.size());
    if (submitted == script_.rounds || rounds_ended < submitted) return;
    ++submitted;
    (void)cluster_.submit(rank, Script::name(tensor), script_.request(tensor, submitted - 1, rank));
  }

  [[nodiscard]] bool ended() const {
    for (int rank = 0; rank < cluster_.size(); ++rank) {
      const auto& outcomes = cluster_.node(rank).outcomes;
      if (outcomes.size() != static_cast<std::size_t>(script_.tensors)) return false;
      for (const auto& [name, rounds] : outcomes)
        if (rounds.size() != static_cast<std::size_t>(script_.rounds)) return false;
    }
    return true;
  }

  void check(int rank, int tensor) const {
    const auto& outcomes = cluster_.node(rank).outcomes.at(Script::name(tensor));
    const auto& first = cluster_.node(0).outcomes.at(Script::name(tensor));
    for (int round = 0; round < script_.rounds; ++round) {
      INFO("rank " << rank << " tensor " << tensor << " round " << round << ": " << outcomes[round].text);
      REQUIRE(outcomes[round].group == first[round].group);
      REQUIRE(outcomes[round].code == first[round].code);
      if (first[round].code == StatusCode::timed_out) {
        REQUIRE(timeouts_);
        continue;
      }
      REQUIRE(outcomes[round].text == first[round].text);
      REQUIRE((first[round].code == StatusCode::ok) == script_.agreed(tensor, round, cluster_.size()));
    }
  }

  void check(const Cluster::Group& group) const {
    REQUIRE(std::set<std::string>(group.names.begin(), group.names.end()).size() == group.names.size());
    if (group.names.size() == 1) return;
    REQUIRE(group.signature.kind == Collective::allreduce);
    REQUIRE(group.signature.count * size_of(group.signature.dtype) <= options_.fusion_bytes);
  }

  Random random_;
  bool timeouts_;
  ClusterOptions options_;
  Cluster cluster_;
  Script script_;
  std::map<std::pair<int, int>, int> submitted_;
};

}  // namespace

TEST_CASE("any schedule executes the same groups in the same order everywhere", "[interleaving]") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    DYNAMIC_SECTION("seed " << seed) {
      Run run(seed, false);
      run.drive();
      run.check();
    }
  }
}

TEST_CASE("any schedule with rounds that time out ends alike everywhere", "[interleaving]") {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    DYNAMIC_SECTION("seed " << seed) {
      Run run(seed, true);
      run.drive();
      run.check();
    }
  }
}
