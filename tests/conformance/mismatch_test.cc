// Ranks that disagree: the same outcome on every rank, nothing written, and the next operation is as good as any.
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "driver.h"
#include "workload.h"

namespace hora::conformance {
namespace {

constexpr int kSize = 3;
const Signature kAgreed{Collective::allreduce, DataType::float32, ReduceOp::sum, Rank{0}, 3000};

std::vector<Signature> deviations() {
  std::vector<Signature> all(6, kAgreed);
  all[0].dtype = DataType::int32;
  all[1].op = ReduceOp::max;
  all[2].count = 1;
  all[3] = {};  // a barrier
  all[4].kind = Collective::allgather;
  all[5] = {Collective::broadcast, DataType::float32, ReduceOp::sum, Rank{1}, 3000};
  return all;
}

TEST_CASE("a_mismatch_is_the_same_on_every_rank_and_harmless") {
  for (const Implementation& implementation : implementations()) {
    const auto job = implementation.make(founding_view(implementation, kSize));
    std::uint64_t sequence = 1;
    for (const Signature& deviation : deviations())
      for (int deviant = 0; deviant < kSize; ++deviant) {
        INFO(implementation.name << ", rank " << deviant << " starts " << describe({deviation}));
        std::vector<Signature> said(kSize, kAgreed);
        said[static_cast<std::size_t>(deviant)] = deviation;
        const Workload agreed{kAgreed, true, true, sequence};
        std::vector<std::unique_ptr<Tensors>> tensors, next;
        for (int rank = 0; rank < kSize; ++rank) {
          Workload workload = agreed;
          workload.signature = said[static_cast<std::size_t>(rank)];
          workload.in_place = true;
          tensors.push_back(std::make_unique<Tensors>(workload, rank, kSize));
          next.push_back(std::make_unique<Tensors>(agreed, rank, kSize));
        }
        std::vector<std::vector<Step>> steps(kSize);
        std::vector<std::vector<Signature>> signatures(kSize);
        run_ranks(*job, kSize, [&](int rank, GroupTransport& group) {
          const auto r = static_cast<std::size_t>(rank);
          steps[r].push_back(complete(group, tensors[r]->operation(Channel::negotiated, sequence)));
          signatures[r] = group.signatures(Channel::negotiated);
          if (steps[r][0] != Step::pending)
            steps[r].push_back(complete(group, next[r]->operation(Channel::negotiated, sequence + 1)));
        });
        for (const int rank : ranks_here(*job, kSize)) {
          const auto r = static_cast<std::size_t>(rank);
          REQUIRE(steps[r] == std::vector<Step>{Step::mismatch, Step::done});
          CHECK(signatures[r] == said);
          CHECK(tensors[r]->untouched());
          CHECK(check_result(agreed, kSize, next[r]->result()) == "");
        }
        sequence += 2;
      }
  }
}

TEST_CASE("who_has_not_started_is_missing") {
  for (const Implementation& implementation : implementations()) {
    INFO(implementation.name);
    const auto job = implementation.make(founding_view(implementation, kSize));
    const Workload workload{kAgreed, false, false, 1};
    std::vector<std::unique_ptr<Tensors>> tensors;
    for (int rank = 0; rank < kSize; ++rank) tensors.push_back(std::make_unique<Tensors>(workload, rank, kSize));
    std::vector<int> starting = ranks_here(*job, kSize);
    std::erase(starting, 1);
    for (const int rank : starting)
      REQUIRE(job->group(rank).start(tensors[static_cast<std::size_t>(rank)]->operation(Channel::ordered, 1)) ==
              Step::pending);
    const auto knows = [&](int rank) {
      return job->group(rank).missing(Channel::ordered) == std::vector<Rank>{Rank{1}};
    };
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    for (int turn = 0; turn < 100 || !std::ranges::all_of(starting, knows); ++turn) {
      REQUIRE(std::chrono::steady_clock::now() < deadline);
      for (const int rank : starting) REQUIRE(job->group(rank).step(Channel::ordered) == Step::pending);
    }
    for (const int rank : starting) {
      const ChannelReport report = job->group(rank).report(Channel::ordered);
      CHECK(report.active);
      CHECK(report.done == 0);
      CHECK(report.signature == kAgreed);
    }
    if (job->holds(1)) CHECK_FALSE(job->group(1).report(Channel::ordered).active);
  }
}

}  // namespace
}  // namespace hora::conformance
