// Members stop at every point of an operation; the survivors must go on with equal bits, each element being the sum of
// one legal set of contributions, and nothing that was released may change.
#include "collectives/recovery.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <map>

#include "unit/shm/world.h"

namespace hora::shm::test {
namespace {

constexpr std::uint64_t kOperations = 4;

struct Scenario {
  Collective kind = Collective::allreduce;
  std::size_t count = 0;
  int in_place = 0;  // bit r: rank r
  int size = 3;
};

// One rank's life: it runs operations 1 to kOperations, one after the other, and scribbles over its tensors after each.
struct Actor {
  std::size_t place = 0;  // in World
  std::uint64_t sequence = 0;
  std::vector<std::int32_t> source, target;
  Extent extent;
  std::map<std::uint64_t, std::vector<std::int32_t>> results;
  std::map<std::uint64_t, int> contributors;
  bool active = false;
};

class Job {
 public:
  Job(const Scenario& scenario, std::uint64_t seed) : scenario_(scenario), world_(scenario.size), random_(seed) {
    for (int rank = 0; rank < scenario.size; ++rank) {
      actors_.emplace_back();
      actors_.back().place = static_cast<std::size_t>(rank);
    }
    view_ = world_.view;
    for (int rank = 0; rank < scenario.size; ++rank) alive_.push_back(static_cast<std::size_t>(rank));
  }

  // One step of a random living member; the dead have stopped wherever they were.
  void step() { step(actors_[alive_[random_.below(alive_.size())]]); }

  // From now on only operations that were started go on.
  void start_nothing() { starts_ = false; }

  // Members whose present rank is in `ranks` die. Survivors that install early already go on while others have not.
  void lose(const std::vector<int>& ranks) {
    const View next = without(view_, ranks);
    std::map<MemberId, std::vector<ChannelReport>> reports;
    std::vector<std::size_t> survivors;
    for (std::size_t i = 0; i < alive_.size(); ++i) {
      if (std::find(ranks.begin(), ranks.end(), static_cast<int>(i)) != ranks.end()) continue;
      survivors.push_back(alive_[i]);
      ShmGroup& group = *world_.groups[alive_[i]];
      std::vector<ChannelReport>& report = reports[view_.members[i].id];
      for (int channel = 0; channel < kChannelCount; ++channel)
        report.push_back(group.report(static_cast<Channel>(channel)));
    }
    const std::vector<ChannelVerdict> verdicts = recovery::decide(view_, next, reports);
    std::vector<std::size_t> installed;
    const std::uint64_t broken = verdicts[0].next == Fate::broken ? verdicts[0].committed + 1 : 0;
    for (const std::size_t place : survivors) {
      world_.groups[place]->install(next, verdicts);
      end_broken(actors_[place], broken);
      installed.push_back(place);
      for (std::uint64_t i = random_.below(20); i > 0; --i) step(actors_[installed[random_.below(installed.size())]]);
    }
    alive_ = survivors;
    view_ = next;
  }

  void finish() {
    for (int i = 0; !finished(); ++i) {
      REQUIRE(i < 1'000'000);
      step();
    }
  }

  [[nodiscard]] bool finished() const {
    return std::all_of(alive_.begin(), alive_.end(), [&](std::size_t place) {
      return actors_[place].sequence == kOperations && !actors_[place].active;
    });
  }

  // All survivors agree bit for bit; every element is the sum over one of the views that there were.
  void check(const std::vector<std::uint32_t>& legal_sets) const {
    for (std::uint64_t sequence = 1; sequence <= kOperations; ++sequence) {
      const Actor& first = actors_[alive_[0]];
      for (const std::size_t place : alive_)
        REQUIRE(actors_[place].results.count(sequence) == first.results.count(sequence));
      if (first.results.count(sequence) == 0) continue;
      for (const std::size_t place : alive_) {
        const bool same = actors_[place].results.at(sequence) == first.results.at(sequence);
        REQUIRE(same);
      }
      if (scenario_.kind == Collective::allreduce) check_sums(first.results.at(sequence), sequence, legal_sets);
      if (scenario_.kind == Collective::broadcast) {
        const bool right = first.results.at(sequence) == contribution(0, sequence);
        REQUIRE(right);
      }
    }
  }

  // A released result never differs between anybody who released it, the dead included.
  void check_released_by_the_dead() const {
    for (const Actor& actor : actors_) {
      for (const auto& [sequence, result] : actor.results) {
        const auto& survivors = actors_[alive_[0]].results;
        REQUIRE(survivors.count(sequence) == 1);
      }
    }
  }

 private:
  // Rank r gives 2^r, and a pattern above that tells elements and operations apart.
  [[nodiscard]] std::vector<std::int32_t> contribution(int rank, std::uint64_t sequence) const {
    std::vector<std::int32_t> values(scenario_.count);
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = (1 << rank) | static_cast<std::int32_t>((i * 7 + sequence) % 1000) << 8;
    return values;
  }

  void check_sums(const std::vector<std::int32_t>& result, std::uint64_t sequence,
                  const std::vector<std::uint32_t>& legal_sets) const {
    for (std::size_t i = 0; i < result.size(); ++i) {
      const auto set = static_cast<std::uint32_t>(result[i]) & 0xff;
      const auto pattern = static_cast<std::int32_t>((i * 7 + sequence) % 1000);
      const bool legal = std::find(legal_sets.begin(), legal_sets.end(), set) != legal_sets.end() &&
                         result[i] >> 8 == pattern * __builtin_popcount(set);
      if (!legal) FAIL("operation " << sequence << " element " << i << " is " << result[i]);
    }
  }

  // An operation that a verdict broke ends for everybody, started or not, once what is committed has been learnt.
  void end_broken(Actor& actor, std::uint64_t broken) {
    if (broken == 0) return;
    if (actor.active && actor.sequence < broken) step(actor);
    actor.active = false;
    actor.sequence = broken;
  }

  void step(Actor& actor) {
    ShmGroup& group = *world_.groups[actor.place];
    Step step;
    if (actor.active) {
      step = group.step(Channel::ordered);
    } else {
      if (!starts_ || actor.sequence == kOperations || random_.chance(1, 3)) return;
      ++actor.sequence;
      start(actor);
      const Signature signature{scenario_.kind, DataType::int32, ReduceOp::sum, Rank{0}, scenario_.count};
      actor.active = true;
      step = group.start({Channel::ordered, actor.sequence, signature, {&actor.extent, 1}});
    }
    if (step == Step::pending) return;
    REQUIRE(step == Step::done);
    actor.active = false;
    const bool root = scenario_.kind == Collective::broadcast && actor.place == 0;
    actor.results[actor.sequence] = root ? actor.source : actor.target;
    std::fill(actor.target.begin(), actor.target.end(), -1);
    std::fill(actor.source.begin(), actor.source.end(), -2);
  }

  void start(Actor& actor) {
    const int rank = static_cast<int>(actor.place);
    actor.source = contribution(rank, actor.sequence);
    const bool gathers = scenario_.kind == Collective::allgather;
    actor.target.assign(scenario_.count * (gathers ? static_cast<std::size_t>(view_.size()) : 1), -3);
    const bool in_place = !gathers && (scenario_.in_place >> rank & 1) != 0;
    if (in_place) actor.target = actor.source;
    const auto* source = reinterpret_cast<const std::byte*>(in_place ? actor.target.data() : actor.source.data());
    actor.extent = {source, reinterpret_cast<std::byte*>(actor.target.data()), scenario_.count * 4};
  }

  Scenario scenario_;
  World world_;
  Random random_;
  View view_;
  std::vector<Actor> actors_;
  std::vector<std::size_t> alive_;
  bool starts_ = true;
};

std::uint32_t everybody(int size) {
  return (1U << size) - 1;
}

// All in one thread, so a thread sanitizer sees as much in every seventh.
#ifdef __SANITIZE_THREAD__
constexpr int kPointStride = 7;
#else
constexpr int kPointStride = 1;
#endif

// Stops `victim` after every number of steps until the job ends without trouble.
void stop_at_every_point(const Scenario& scenario, int victim) {
  for (int point = 0;; point += kPointStride) {
    Job job(scenario, static_cast<std::uint64_t>(point * 8 + victim));
    for (int i = 0; i < point && !job.finished(); ++i) job.step();
    if (job.finished()) {
      REQUIRE(point > 10);
      return;
    }
    INFO("stopped rank " << victim << " after " << point << " steps, count " << scenario.count << " in place "
                         << scenario.in_place);
    job.lose({victim});
    job.finish();
    job.check({everybody(scenario.size), everybody(scenario.size) & ~(1U << victim)});
    if (scenario.kind == Collective::allreduce) job.check_released_by_the_dead();
  }
}

TEST_CASE("survivors of a death at any point of an allreduce agree") {
  for (const std::size_t count : {1, 200, 1500, 6000})
    for (const int in_place : {0, 0b111, 0b010})
      for (int victim = 0; victim < 3; ++victim)
        stop_at_every_point({Collective::allreduce, count, in_place, 3}, victim);
}

TEST_CASE("the survivor of two agrees with itself") {
  for (const std::size_t count : {1, 1500, 6000}) stop_at_every_point({Collective::allreduce, count, 0b11, 2}, 1);
}

TEST_CASE("survivors of a death at any point of a broadcast agree") {
  for (const std::size_t count : {5, 200, 6000})
    for (int victim = 1; victim < 3; ++victim) stop_at_every_point({Collective::broadcast, count, 0, 3}, victim);
}

TEST_CASE("when a root or a shape is gone the operation is broken for all or done for all") {
  for (const Collective kind : {Collective::broadcast, Collective::allgather}) {
    for (const std::size_t count : {5, 200, 6000}) {
      for (int point = 0; point < 120; point += kPointStride) {
        Job job({kind, count, 0, 3}, static_cast<std::uint64_t>(point));
        for (int i = 0; i < point && !job.finished(); ++i) job.step();
        if (job.finished()) break;
        job.start_nothing();
        job.lose({0});
        // The survivors share what was released, and a broken operation has no result anywhere.
        job.check({});
      }
    }
  }
}

TEST_CASE("a second death during the recovery of the first is another view") {
  for (const std::size_t count : {200, 6000, 30000}) {
    for (const int in_place : {0, 0b1111, 0b0101}) {
      for (int point = 0; point < 150; point += kPointStride) {
        Job job({Collective::allreduce, count, in_place, 4}, static_cast<std::uint64_t>(point));
        for (int i = 0; i < point && !job.finished(); ++i) job.step();
        if (job.finished()) break;
        INFO("count " << count << " point " << point << " in place " << in_place);
        job.lose({1});
        for (int i = 0; i < point * 7 % 31; ++i) job.step();
        job.lose({2});  // what was rank 3
        job.finish();
        job.check({0b1111, 0b1101, 0b0101});
        job.check_released_by_the_dead();
      }
    }
  }
}

TEST_CASE("two deaths at once leave the rest in agreement") {
  for (const int in_place : {0, 0b1111}) {
    for (int point = 0; point < 120; point += kPointStride) {
      Job job({Collective::allreduce, 6000, in_place, 4}, static_cast<std::uint64_t>(point));
      for (int i = 0; i < point && !job.finished(); ++i) job.step();
      if (job.finished()) break;
      job.lose({0, 3});
      job.finish();
      job.check({0b1111, 0b0110});
      job.check_released_by_the_dead();
    }
  }
}

TEST_CASE("who missed a view change ends nothing in the old one") {
  World world(3);
  const Signature signature{Collective::allreduce, DataType::int32, ReduceOp::sum, Rank{0}, 1};
  std::vector<std::int32_t> values{1, 2, 4};
  std::vector<Extent> extents;
  for (std::int32_t& value : values)
    extents.push_back({reinterpret_cast<std::byte*>(&value), reinterpret_cast<std::byte*>(&value), 4});
  // Ranks 0 and 1 go on without rank 2, which starts the operation when it wakes.
  for (std::size_t rank = 0; rank < 2; ++rank)
    world.groups[rank]->start({Channel::ordered, 1, signature, {&extents[rank], 1}});
  const View next = without(world.view, {2});
  std::vector<ChannelVerdict> verdicts(kChannelCount);
  for (std::size_t rank = 0; rank < 2; ++rank) world.groups[rank]->install(next, verdicts);
  CHECK(world.groups[2]->start({Channel::ordered, 1, signature, {&extents[2], 1}}) == Step::pending);
  CHECK(world.groups[0]->step(Channel::ordered) == Step::pending);
  CHECK(world.groups[1]->step(Channel::ordered) == Step::done);
  CHECK(world.groups[0]->step(Channel::ordered) == Step::done);
  CHECK(values[0] == 3);
  CHECK(values[1] == 3);
  CHECK(world.groups[0]->contributors(Channel::ordered) == 2);
  CHECK(world.groups[2]->step(Channel::ordered) == Step::pending);
}

}  // namespace
}  // namespace hora::shm::test
