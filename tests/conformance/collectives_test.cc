// Every collective, type, operator, count, placement and size: right, equal on every rank, and nothing else written.
#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "collectives/reduce_kernels.h"
#include "driver.h"
#include "elements.h"
#include "workload.h"

namespace hora::conformance {
namespace {

constexpr DataType kTypes[] = {DataType::float16, DataType::bfloat16, DataType::float32,
                               DataType::float64, DataType::int8,     DataType::int16,
                               DataType::int32,   DataType::int64,    DataType::uint8};
// Types whose kernels differ; every type goes through every transport among two and three ranks.
constexpr DataType kFewTypes[] = {DataType::bfloat16, DataType::float32, DataType::int64};
constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max, ReduceOp::product};

// Around the chunk, and none, one and few elements.
std::set<std::uint64_t> counts_of(DataType type, int size) {
  const std::uint64_t chunk = kChunkBytes / size_of(type);
  const auto n = static_cast<std::uint64_t>(size);
  return {0, 1, 7, n + 1, 1001, chunk - 1, chunk, chunk + 1, 2 * n * chunk + 3};
}

// In place or not, one tensor or several: all four among few ranks, in turn among many.
void add_placements(std::vector<Workload>& all, const Signature& signature, int size) {
  for (unsigned placement = 0; placement < 4; ++placement) {
    all.push_back({signature, (placement & 1) != 0, (placement & 2) != 0, all.size()});
    if (size > 3) {
      all.back().in_place = all.size() % 2 == 0;
      all.back().fused = all.size() / 2 % 2 == 0;
      return;
    }
  }
}

// Performs all workloads one after another on one thread for each rank, then checks what came out.
void check_all(const Implementation& implementation, int size, const std::vector<Workload>& workloads) {
  const auto job = implementation.make(founding_view(implementation, size));
  std::vector<std::vector<std::unique_ptr<Tensors>>> tensors(static_cast<std::size_t>(size));
  std::vector<std::vector<Step>> steps(tensors.size());
  std::vector<std::vector<int>> contributors(tensors.size());
  const std::vector<int> here = ranks_here(*job, size);
  for (const int rank : here)
    for (const Workload& workload : workloads)
      tensors[static_cast<std::size_t>(rank)].push_back(std::make_unique<Tensors>(workload, rank, size));
  run_ranks(*job, size, [&](int rank, GroupTransport& group) {
    const auto r = static_cast<std::size_t>(rank);
    for (std::size_t i = 0; i < workloads.size(); ++i) {
      steps[r].push_back(complete(group, tensors[r][i]->operation(Channel::ordered, i + 1)));
      if (steps[r].back() == Step::pending) return;
      contributors[r].push_back(group.contributors(Channel::ordered));
    }
  });
  std::vector<std::byte> results;
  for (std::size_t i = 0; i < workloads.size() && !here.empty(); ++i) {
    INFO(implementation.name << ", " << size << " ranks: " << describe(workloads[i]));
    const std::vector<std::byte> first = tensors[static_cast<std::size_t>(here[0])][i]->result();
    results.insert(results.end(), first.begin(), first.end());
    CHECK(check_result(workloads[i], size, first) == "");
    for (const int rank : here) {
      const auto r = static_cast<std::size_t>(rank);
      INFO("rank " << r);
      REQUIRE(i < steps[r].size());
      REQUIRE(steps[r][i] == Step::done);
      CHECK(contributors[r][i] == size);
      CHECK(tensors[r][i]->result() == first);
      CHECK(tensors[r][i]->intact_around());
    }
  }
  CHECK(job->agree(results));
}

void for_every_job(const std::function<void(const Implementation&, int)>& body) {
  for (const Implementation& implementation : implementations())
    for (const int size : {1, 2, 3, 4, 5, 7})
      if (size <= implementation.size_max) body(implementation, size);
}

TEST_CASE("allreduce_is_right_and_equal_on_every_rank") {
  for_every_job([](const Implementation& implementation, int size) {
    const bool all_types = size == 2 || size == 3;
    for (const DataType type : all_types ? std::span<const DataType>(kTypes) : kFewTypes) {
      std::vector<Workload> workloads;
      for (const ReduceOp op : kOps)
        for (const std::uint64_t count : counts_of(type, size))
          if (collectives::is_supported(type, op))
            add_placements(workloads, {Collective::allreduce, type, op, Rank{0}, count}, size);
      check_all(implementation, size, workloads);
    }
  });
}

// Any two of them add up to more than float16 holds.
TEST_CASE("an_average_of_large_halves_does_not_overflow") {
  for_every_job([](const Implementation& implementation, int size) {
    constexpr double kLarge = 40'000;
    for (const std::uint64_t count : {3, 6000}) {
      const auto job = implementation.make(founding_view(implementation, size));
      std::vector<std::vector<std::byte>> data(static_cast<std::size_t>(size));
      run_ranks(*job, size, [&](int rank, GroupTransport& group) {
        std::vector<std::byte>& own = data[static_cast<std::size_t>(rank)];
        own.resize(count * size_of(DataType::float16));
        for (std::size_t i = 0; i < own.size(); i += 2) store_floating(DataType::float16, own.data() + i, kLarge);
        const std::vector<Extent> extents = {{own.data(), own.data(), own.size()}};
        complete(group, {Channel::ordered,
                         1,
                         {Collective::allreduce, DataType::float16, ReduceOp::average, Rank{0}, count},
                         extents});
      });
      INFO(implementation.name << ", " << size << " ranks, " << count << " elements");
      for (const int rank : ranks_here(*job, size))
        for (std::size_t i = 0; i < data[static_cast<std::size_t>(rank)].size(); i += 2)
          REQUIRE(load_floating(DataType::float16, data[static_cast<std::size_t>(rank)].data() + i) ==
                  Approx(kLarge).epsilon(2 * epsilon(DataType::float16)));
    }
  });
}

TEST_CASE("broadcast_brings_the_root_s_bytes_to_every_rank") {
  for_every_job([](const Implementation& implementation, int size) {
    std::vector<Workload> workloads;
    for (const DataType type : {DataType::uint8, DataType::bfloat16, DataType::float64})
      for (const std::uint64_t count : counts_of(type, size))
        for (const int root : std::set<int>{0, size / 2, size - 1})
          add_placements(workloads, {Collective::broadcast, type, ReduceOp::sum, Rank{root}, count}, size);
    check_all(implementation, size, workloads);
  });
}

TEST_CASE("allgather_brings_every_rank_s_bytes_to_every_rank_in_rank_order") {
  for_every_job([](const Implementation& implementation, int size) {
    std::vector<Workload> workloads;
    for (const DataType type : {DataType::uint8, DataType::bfloat16, DataType::float64})
      for (const std::uint64_t count : counts_of(type, size))
        add_placements(workloads, {Collective::allgather, type, ReduceOp::sum, Rank{0}, count}, size);
    check_all(implementation, size, workloads);
  });
}

TEST_CASE("a_barrier_ends") {
  for_every_job([](const Implementation& implementation, int size) {
    check_all(implementation, size, std::vector<Workload>(20));
  });
}

}  // namespace
}  // namespace hora::conformance
