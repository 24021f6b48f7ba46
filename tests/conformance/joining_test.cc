// Newcomers enter at a boundary between operations, take part from then on, and outlive or precede others like anybody.
#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/random.h"
#include "collectives/recovery.h"
#include "implementation.h"

namespace hora::conformance {
namespace {

constexpr int kPatience = 20'000;          // turns after which members are said to hang
constexpr std::uint64_t kFewElements = 5;  // and so many that a message has several parts
constexpr std::uint64_t kManyElements = 9'001;

std::uint64_t count_of(std::uint64_t sequence) {
  return sequence % 2 == 0 ? kFewElements : kManyElements;
}

// One member. It contributes its own bit to every element, so that a result tells whose values it contains.
struct Player {
  MemberId id;
  GroupTransport* group = nullptr;
  std::int64_t bit = 0;
  bool alive = true;
  bool active = false;
  Positions done{};
  std::map<std::pair<std::size_t, std::uint64_t>, std::vector<std::int64_t>> results;
  std::vector<std::int64_t> source, target;
  Extent extent;
};

class JoiningWorld {
 public:
  JoiningWorld(const Implementation& implementation, int size, std::uint64_t seed)
      : view_(founding_view(implementation, size)), random_(seed), job_(implementation.make(view_)) {
    for (int rank = 0; rank < size; ++rank)
      add(view_.members[static_cast<std::size_t>(rank)].id, job_->group(rank), {});
    views_.push_back(bits_of(view_));
  }

  // False where this transport has no newcomers.
  bool join() {
    View next = view_;
    ++next.epoch.value;
    const auto rank = static_cast<int>(players_.size());
    next.members.push_back({founding_member(rank), view_.members.back().host, ""});
    const Positions done = players_[first_alive()].done;
    GroupTransport* group = job_->join(next, done);
    if (group == nullptr) return false;
    std::vector<ChannelVerdict> verdicts(kChannelCount);
    for (std::size_t channel = 0; channel < kChannelCount; ++channel) verdicts[channel].committed = done[channel];
    for (Player& player : players_)
      if (player.alive) player.group->install(next, verdicts);
    add(next.members.back().id, *group, done);
    enter(next);
    return true;
  }

  void stop(std::size_t index) {
    players_[index].alive = false;
    job_->stop(static_cast<int>(index), random_.chance(1, 2));
    View next = view_without(view_, players_[index].id);
    std::map<MemberId, std::vector<ChannelReport>> reports;
    for (Player& player : players_)
      if (player.alive)
        for (int channel = 0; channel < kChannelCount; ++channel)
          reports[player.id].push_back(player.group->report(static_cast<Channel>(channel)));
    const auto verdicts = recovery::decide(view_, next, reports);
    for (Player& player : players_)
      if (player.alive) player.group->install(next, verdicts);
    enter(next);
  }

  // Turns of members in the order of the seed; none begins an operation beyond `last` of the ordered channel.
  void move(int turns, std::uint64_t last) {
    for (int i = 0; i < turns; ++i) {
      Player& player = players_[random_.below(players_.size())];
      if (player.alive) take_turn(player, last);
    }
  }
  // False when members hang.
  bool finish(std::uint64_t last) {
    for (int turn = 0; turn < kPatience; ++turn) {
      move(static_cast<int>(players_.size()), last);
      if (std::ranges::all_of(players_, [&](const Player& p) { return !p.alive || p.done[0] == last; })) return true;
    }
    return false;
  }

  // What is wrong with the results of the living; empty: nothing.
  [[nodiscard]] std::string fault() const {
    std::map<std::pair<std::size_t, std::uint64_t>, const std::vector<std::int64_t>*> seen;
    for (const Player& player : players_) {
      if (!player.alive) continue;
      for (const auto& [operation, result] : player.results) {
        const auto [known, fresh] = seen.try_emplace(operation, &result);
        const std::string name = "operation " + std::to_string(operation.second);
        if (!fresh && *known->second != result) return name + " differs between members";
        if (std::ranges::find(views_, result[0]) == views_.end()) return name + " contains the members of no view";
        if (std::ranges::adjacent_find(result, std::ranges::not_equal_to()) != result.end())
          return name + " is not of one piece";
      }
    }
    return {};
  }
  [[nodiscard]] std::size_t size() const { return players_.size(); }
  // Whose values the last operation contains, at a member that lives.
  [[nodiscard]] int contributors_of_last() const {
    return std::popcount(static_cast<std::uint64_t>(players_[first_alive()].results.rbegin()->second[0]));
  }
  [[nodiscard]] int members() const { return view_.size(); }

 private:
  void add(MemberId id, GroupTransport& group, const Positions& done) {
    Player& player = players_.emplace_back();
    player.id = id;
    player.group = &group;
    player.bit = std::int64_t{1} << (players_.size() - 1);
    player.done = done;
  }
  void enter(const View& next) {
    view_ = next;
    views_.push_back(bits_of(next));
  }
  [[nodiscard]] std::int64_t bits_of(const View& view) const {
    std::int64_t bits = 0;
    for (const Player& player : players_)
      if (view.rank_of(player.id)) bits |= player.bit;
    return bits;
  }
  [[nodiscard]] std::size_t first_alive() const {
    return static_cast<std::size_t>(std::ranges::find(players_, true, &Player::alive) - players_.begin());
  }

  void take_turn(Player& player, std::uint64_t last) {
    Step step = Step::pending;
    if (player.active) {
      step = player.group->step(Channel::ordered);
    } else if (player.done[0] < last) {
      const std::uint64_t sequence = player.done[0] + 1;
      player.source.assign(count_of(sequence), player.bit);
      player.target.assign(player.source.size(), 0);
      player.extent = {reinterpret_cast<const std::byte*>(player.source.data()),
                       reinterpret_cast<std::byte*>(player.target.data()), 8 * player.source.size()};
      player.active = true;
      step =
          player.group->start({Channel::ordered,
                               sequence,
                               {Collective::allreduce, DataType::int64, ReduceOp::sum, Rank{0}, player.source.size()},
                               {&player.extent, 1}});
    } else {
      player.group->settle();
    }
    if (step != Step::done) return;
    player.active = false;
    ++player.done[0];
    player.results[{0, player.done[0]}] = player.target;
  }

  View view_;
  Random random_;
  std::unique_ptr<Job> job_;
  std::vector<Player> players_;      // by founding rank, newcomers last
  std::vector<std::int64_t> views_;  // the bits of the members of each view
};

TEST_CASE("newcomers_take_part_from_the_boundary_at_which_they_enter", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (const int size : {1, 2, 3}) {
      INFO(implementation.name << ", " << size << " founders");
      JoiningWorld world(implementation, size, 7);
      REQUIRE(world.finish(3));
      CHECK(world.contributors_of_last() == size);
      if (!world.join()) continue;
      REQUIRE(world.finish(5));
      CHECK(world.contributors_of_last() == size + 1);
      // Twice in a row, with no operation between.
      REQUIRE(world.join());
      REQUIRE(world.finish(5));
      REQUIRE(world.join());
      REQUIRE(world.finish(8));
      CHECK(world.contributors_of_last() == size + 3);
      CHECK(world.fault() == "");
    }
}

// A newcomer retains nothing of what was before: it is behind others like anybody, and never the one to forward.
TEST_CASE("survivors_agree_when_members_die_around_a_join", "[elastic]") {
  for (const Implementation& implementation : elastic_implementations())
    for (std::uint64_t seed = 0; seed < 150; seed += implementation.cost) {
      Random random(seed);
      const int size = 2 + static_cast<int>(random.below(3));
      INFO(implementation.name << ", " << size << " founders, seed " << seed);
      JoiningWorld world(implementation, size, random.next());
      const std::uint64_t before = random.below(4);
      REQUIRE(world.finish(before));
      if (!world.join()) break;
      world.move(static_cast<int>(random.below(120)), before + 2);
      world.stop(random.below(world.size()));
      world.move(static_cast<int>(random.below(40)), before + 2);
      REQUIRE(world.finish(before + 2));
      REQUIRE(world.join());
      REQUIRE(world.finish(before + 5));
      CHECK(world.contributors_of_last() == world.members());
      REQUIRE(world.fault() == "");
    }
}

}  // namespace
}  // namespace hora::conformance
