// Operations back to back on both channels at once, each rank taking its own turns between them.
#include <array>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "base/random.h"
#include "driver.h"
#include "workload.h"

namespace hora::conformance {
namespace {

constexpr std::size_t kOperations = 60;

Workload workload_at(int channel, std::size_t index, int size) {
  Random random(static_cast<std::uint64_t>(channel) * 1000 + index);
  Workload workload;
  workload.seed = random.next() >> 32;
  workload.signature.kind = static_cast<Collective>(random.below(kCollectiveCount));
  workload.fused = random.chance(1, 3);
  if (workload.signature.kind == Collective::barrier) return workload;
  workload.signature.dtype = DataType::int32;
  workload.signature.count = random.chance(1, 4) ? 3 * kChunkBytes + 1 : random.below(300);
  if (workload.signature.kind == Collective::broadcast)
    workload.signature.root = Rank{static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(size)))};
  workload.in_place = random.chance(1, 2);
  return workload;
}

using Sequence = std::vector<std::unique_ptr<Tensors>>;

// Starts and steps whichever channel the dice say until both sequences are through; false at the deadline.
bool play(GroupTransport& group, const std::array<Sequence, kChannelCount>& sequences, std::uint64_t seed) {
  Random random(seed);
  std::array<std::size_t, kChannelCount> ended{};
  std::array<bool, kChannelCount> active{};
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (ended[0] < kOperations || ended[1] < kOperations) {
    const std::size_t c = random.below(kChannelCount);
    if (ended[c] == kOperations) continue;
    const auto channel = static_cast<Channel>(c);
    const Step step =
        active[c] ? group.step(channel) : group.start(sequences[c][ended[c]]->operation(channel, ended[c] + 1));
    active[c] = step == Step::pending;
    if (step == Step::mismatch) return false;
    if (step == Step::done) ++ended[c];
    if (std::chrono::steady_clock::now() >= deadline) return false;
    if (active[0] && active[1]) std::this_thread::yield();
  }
  return true;
}

TEST_CASE("channels_do_not_disturb_each_other") {
  for (const Implementation& implementation : implementations())
    for (const int size : {2, 3, 5}) {
      INFO(implementation.name << ", " << size << " ranks");
      const auto job = implementation.make(founding_view(implementation, size));
      std::vector<std::array<Sequence, kChannelCount>> tensors(static_cast<std::size_t>(size));
      const std::vector<int> here = ranks_here(*job, size);
      for (const int rank : here)
        for (int channel = 0; channel < kChannelCount; ++channel)
          for (std::size_t i = 0; i < kOperations; ++i)
            tensors[static_cast<std::size_t>(rank)][static_cast<std::size_t>(channel)].push_back(
                std::make_unique<Tensors>(workload_at(channel, i, size), rank, size));
      std::vector<char> played(tensors.size());
      run_ranks(*job, size, [&](int rank, GroupTransport& group) {
        const auto r = static_cast<std::size_t>(rank);
        played[r] = play(group, tensors[r], r + 1);
      });
      std::vector<std::byte> results;
      for (const int rank : here) {
        const auto r = static_cast<std::size_t>(rank);
        REQUIRE(played[r]);
        for (int channel = 0; channel < kChannelCount; ++channel)
          for (std::size_t i = 0; i < kOperations; ++i) {
            const Tensors& of_rank = *tensors[r][static_cast<std::size_t>(channel)][i];
            INFO("rank " << r << ", channel " << channel << ", operation " << i + 1);
            const std::vector<std::byte> result = of_rank.result();
            const auto& first = tensors[static_cast<std::size_t>(here[0])];
            CHECK(result == first[static_cast<std::size_t>(channel)][i]->result());
            CHECK(of_rank.intact_around());
            if (rank != here[0]) continue;
            CHECK(check_result(workload_at(channel, i, size), size, result) == "");
            results.insert(results.end(), result.begin(), result.end());
          }
      }
      CHECK(job->agree(results));
    }
}

// One channel waits for a rank that does not come; the other goes on.
TEST_CASE("a_waiting_channel_does_not_hold_the_other_up") {
  for (const Implementation& implementation : implementations()) {
    INFO(implementation.name);
    const auto job = implementation.make(founding_view(implementation, 2));
    const Workload workload = {{Collective::allreduce, DataType::int32, ReduceOp::sum, Rank{0}, 5000}, false, false, 7};
    Tensors waiting(workload, 0, 2), late(workload, 1, 2);
    if (job->holds(0)) REQUIRE(job->group(0).start(waiting.operation(Channel::ordered, 1)) == Step::pending);
    const Operation barrier{Channel::negotiated, 1, {}, {}};
    run_ranks(*job, 2, [&](int, GroupTransport& group) { complete(group, barrier); });
    if (job->holds(0)) {
      CHECK(job->group(0).report(Channel::negotiated).done == 1);
      CHECK(job->group(0).report(Channel::ordered).done == 0);
    }
    std::vector<Step> steps(2, Step::pending);
    run_ranks(*job, 2, [&](int rank, GroupTransport& group) {
      if (rank == 1) steps[1] = complete(group, late.operation(Channel::ordered, 1));
      const auto deadline = std::chrono::steady_clock::now() + kDeadline;
      while (rank == 0 && steps[0] == Step::pending && std::chrono::steady_clock::now() < deadline)
        steps[0] = group.step(Channel::ordered);
    });
    for (const int rank : ranks_here(*job, 2)) {
      CHECK(steps[static_cast<std::size_t>(rank)] == Step::done);
      CHECK(check_result(workload, 2, (rank == 0 ? waiting : late).result()) == "");
    }
  }
}

}  // namespace
}  // namespace hora::conformance
