#include "hora/sampler.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include "base/random.h"

// Its headers shadow names of their own.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#include <rapidcheck.h>
#pragma GCC diagnostic pop

namespace hora {
namespace {

using Indices = std::vector<std::uint64_t>;

// A job whose ranks share out batches. A step is what the caller of a Sampler does.
class Job {
 public:
  Job(std::uint64_t samples, std::uint64_t seed, int ranks) : samples_(samples), seed_(seed) {
    for (int rank = 0; rank < ranks; ++rank) samplers_.push_back(std::make_unique<Sampler>(samples, seed));
  }

  [[nodiscard]] int size() const { return static_cast<int>(samplers_.size()); }
  Sampler& sampler(int rank) { return *samplers_[static_cast<std::size_t>(rank)]; }

  // Every rank draws as it sees itself (`places`: rank and size); those that `die` do so before anything is summed.
  // Returns how many samples counted.
  std::uint64_t step(std::uint64_t batch, const std::vector<std::pair<int, int>>& places,
                     const std::vector<bool>& die) {
    std::vector<float> sums;
    Indices used;
    const std::uint64_t epoch = sampler(0).epoch();
    for (int rank = 0; rank < size(); ++rank) {
      const auto place = places[static_cast<std::size_t>(rank)];
      const auto share = sampler(rank).next(batch, place.first, place.second);
      const auto marks = sampler(rank).marks();
      sums.resize(marks.size());
      if (die[static_cast<std::size_t>(rank)]) continue;
      used.insert(used.end(), share.begin(), share.end());
      for (std::size_t i = 0; i < marks.size(); ++i) sums[i] += marks[i];
    }
    std::vector<std::unique_ptr<Sampler>> survivors;
    for (int rank = 0; rank < size(); ++rank)
      if (!die[static_cast<std::size_t>(rank)])
        survivors.push_back(std::move(samplers_[static_cast<std::size_t>(rank)]));
    samplers_ = std::move(survivors);
    std::uint64_t consumed = 0;
    for (auto& sampler : samplers_) {
      std::ranges::copy(sums, sampler->marks().begin());
      consumed = sampler->commit();
    }
    if (consumed > 0)
      for (const std::uint64_t index : used) ++consumed_[epoch][index];
    return consumed;
  }

  std::uint64_t step(std::uint64_t batch) {
    return step(batch, places(), std::vector<bool>(static_cast<std::size_t>(size())));
  }
  [[nodiscard]] std::vector<std::pair<int, int>> places() const {
    std::vector<std::pair<int, int>> result;
    for (int rank = 0; rank < size(); ++rank) result.emplace_back(rank, size());
    return result;
  }
  void join() {
    const Sampler::State state = sampler(0).state();
    samplers_.push_back(std::make_unique<Sampler>(samples_, seed_));
    samplers_.back()->restore(state);
  }
  [[nodiscard]] bool states_equal() const {
    return std::ranges::all_of(samplers_, [&](const auto& one) { return one->state() == samplers_[0]->state(); });
  }
  // How often each sample was consumed in `epoch` is 1 for all.
  [[nodiscard]] bool exactly_once(std::uint64_t epoch) const {
    const auto found = consumed_.find(epoch);
    return found != consumed_.end() && found->second.size() == samples_ &&
           std::ranges::all_of(found->second, [](const auto& entry) { return entry.second == 1; });
  }

 private:
  std::uint64_t samples_;
  std::uint64_t seed_;
  std::vector<std::unique_ptr<Sampler>> samplers_;
  std::map<std::uint64_t, std::map<std::uint64_t, int>> consumed_;
};

Indices all(std::uint64_t count) {
  Indices indices(count);
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

TEST_CASE("an epoch hands out every sample once, in an order of its own") {
  Sampler sampler(100, 7);
  Indices orders[2];
  for (std::uint64_t epoch = 0; epoch < 2; ++epoch) {
    while (sampler.epoch() == epoch) {
      const auto share = sampler.next(30, 0, 1);
      orders[epoch].insert(orders[epoch].end(), share.begin(), share.end());
      CHECK(sampler.commit() == share.size());
    }
    CHECK(orders[epoch].size() == 100);
  }
  CHECK(orders[0] != orders[1]);
  std::ranges::sort(orders[0]);
  CHECK(orders[0] == all(100));
}

TEST_CASE("the batch does not depend on how many share it") {
  Sampler alone(1000, 1);
  const auto whole = alone.next(240, 0, 1);
  for (const int size : {2, 3, 7, 240, 300}) {
    Indices together;
    for (int rank = 0; rank < size; ++rank) {
      Sampler sampler(1000, 1);
      const auto share = sampler.next(240, rank, size);
      CHECK(share.size() <= (240 + static_cast<std::size_t>(size) - 1) / static_cast<std::size_t>(size));
      together.insert(together.end(), share.begin(), share.end());
    }
    CHECK(together == Indices(whole.begin(), whole.end()));
  }
}

TEST_CASE("a batch that is not committed is handed out again") {
  Sampler sampler(50, 2);
  const auto first = sampler.next(20, 0, 1);
  const Indices drawn(first.begin(), first.end());
  const auto second = sampler.next(20, 0, 1);
  CHECK(drawn == Indices(second.begin(), second.end()));
  CHECK(sampler.remaining() == 50);
  CHECK(sampler.drawn() == 20);
}

TEST_CASE("the share of the dead is handed out first") {
  Job job(1000, 3, 4);
  Sampler dead(1000, 3);
  const auto lost = dead.next(240, 2, 4);
  CHECK(job.step(240, job.places(), {false, false, true, false}) == 180);
  CHECK(job.sampler(0).remaining() == 820);
  CHECK(job.states_equal());
  Indices next;
  for (int rank = 0; rank < 3; ++rank) {
    const auto share = job.sampler(rank).next(240, rank, 3);
    next.insert(next.end(), share.begin(), share.end());
  }
  CHECK(Indices(next.begin(), next.begin() + 60) == Indices(lost.begin(), lost.end()));
}

TEST_CASE("a step that some shared out differently does not count") {
  Job job(1000, 3, 3);
  // Rank 0 has not been told yet that there are three.
  const std::vector<std::pair<int, int>> places = {{0, 4}, {1, 3}, {2, 3}};
  const std::vector<bool> nobody(3);
  const Sampler::State before = job.sampler(0).state();
  // A gap between ranks 0 and 1: what nobody had is handed out again.
  CHECK(job.step(240, places, nobody) == 220);
  CHECK(job.states_equal());
  // An overlap: nothing counts.
  Job other(1000, 3, 3);
  CHECK(other.step(240, {{1, 3}, {1, 4}, {2, 3}}, nobody) == 0);
  CHECK(other.sampler(0).state() == before);
  CHECK(other.states_equal());
  CHECK(other.step(240) == 240);
}

TEST_CASE("a rank may get nothing of a short batch") {
  Sampler sampler(5, 1);
  CHECK(sampler.next(240, 0, 8).empty());
  CHECK(sampler.next(240, 7, 8).size() == 1);
  CHECK(sampler.marks().size() == 5);
  CHECK(sampler.drawn() == 5);
}

TEST_CASE("marks stay few for large batches") {
  Sampler sampler(1'000'000, 1);
  CHECK(sampler.next(100'000, 1, 3).size() > 33'000);
  CHECK(sampler.marks().size() <= Sampler::kMarksMax);
}

TEST_CASE("a step that leaves too many pieces does not count") {
  constexpr int kRanks = 2 * static_cast<int>(Sampler::State::kReturnedMax) + 2;
  Job job(10'000, 1, kRanks);
  std::vector<bool> every_other(kRanks);
  for (std::size_t rank = 0; rank < kRanks; rank += 2) every_other[rank] = true;
  CHECK(job.step(1000, job.places(), every_other) == 0);
  CHECK(job.states_equal());
  CHECK(job.sampler(0).remaining() == 10'000);
  CHECK(job.step(1000) == 1000);
}

TEST_CASE("what is wrong is refused") {
  CHECK_THROWS_AS(Sampler(0, 1), Error);
  Sampler sampler(10, 1);
  CHECK_THROWS_AS(sampler.commit(), Error);
  CHECK_THROWS_AS(sampler.next(0, 0, 1), Error);
  CHECK_THROWS_AS(sampler.next(1, 1, 1), Error);
  CHECK_THROWS_AS(sampler.next(1, -1, 1), Error);
  for (const float mark : {0.5F, -1.0F, std::numeric_limits<float>::quiet_NaN()}) {
    sampler.next(4, 0, 1);
    sampler.marks()[0] = mark;
    CHECK_THROWS_AS(sampler.commit(), Error);
  }
  Sampler::State state = sampler.state();
  state.seed = 2;
  CHECK_THROWS_AS(sampler.restore(state), Error);
  state = sampler.state();
  state.cursor = 10;
  CHECK_THROWS_AS(sampler.restore(state), Error);
  state.returned_count = 1;
  state.returned[0] = {4, 4};
  CHECK_THROWS_AS(sampler.restore(state), Error);
  state.returned[0] = {4, 6};
  CHECK_NOTHROW(sampler.restore(state));
  CHECK(sampler.remaining() == 2);
  state.returned_count = Sampler::State::kReturnedMax + 1;
  CHECK_THROWS_AS(sampler.restore(state), Error);
}

// Epochs of random steps, with deaths, newcomers and disagreement about the view. rapidcheck chooses the job and
// shrinks it; its steps follow from one seed, for a choice of its own for each of thousands of steps would take it
// minutes.
void random_job() {
  const auto samples = *rc::gen::inRange<std::uint64_t>(1, 1000);
  const auto batch = *rc::gen::inRange<std::uint64_t>(samples / 40 + 1, 2 * samples + 2);
  Random random(*rc::gen::arbitrary<std::uint64_t>());
  Job job(samples, random.next(), *rc::gen::inRange(1, 8));
  const std::uint64_t epochs = 2;
  for (int steps = 0; job.sampler(0).epoch() < epochs; ++steps) {
    RC_ASSERT(steps < 2000);
    std::vector<bool> die(static_cast<std::size_t>(job.size()));
    auto places = job.places();
    if (random.chance(1, 4)) {
      for (std::size_t rank = 1; rank < die.size(); ++rank) die[rank] = random.chance(1, 3);
      for (auto& place : places)
        if (random.chance(1, 6)) ++place.second;
    }
    job.step(batch, places, die);
    RC_ASSERT(job.states_equal());
    if (job.size() < 8 && random.chance(1, 4)) job.join();
  }
  for (std::uint64_t epoch = 0; epoch < epochs; ++epoch) RC_ASSERT(job.exactly_once(epoch));
}

TEST_CASE("every sample is consumed exactly once per epoch, whoever dies or comes") {
  CHECK(rc::check("every sample once", random_job));
}

}  // namespace
}  // namespace hora
