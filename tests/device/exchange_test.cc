// Device memory through both fronts: every type and operator, over NCCL and over the host, in the order of streams.
#include <catch2/catch.hpp>
#include <cstring>
#include <string>

#include "collectives/reduce_kernels.h"
#include "device_job.h"
#include "emulated_gpu.h"

namespace hora::device_test {
namespace {

using conformance::Workload;

constexpr DataType kTypes[] = {DataType::float16, DataType::bfloat16, DataType::float32,
                               DataType::float64, DataType::int8,     DataType::int16,
                               DataType::int32,   DataType::int64,    DataType::uint8};
constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max, ReduceOp::product};

std::shared_ptr<const cuda::Runtime> with_nccl(int) {
  return emulated::runtime();
}
std::shared_ptr<const cuda::Runtime> without_nccl(int) {
  return emulated::runtime(false);
}

// Source, target and the expected size of one operation of one rank.
struct Tensor {
  Tensor(Player& player, const Workload& workload, int rank)
      : work(workload),
        bytes(workload.signature.count * size_of(workload.signature.dtype)),
        source(player.driver(), bytes + 1),
        target(player.driver(), bytes + 1) {
    const std::vector<std::byte> input = conformance::input_of(workload, rank);
    player.write(source, input);
    if (work.in_place) player.write(target, input);
    player.synchronize();
  }
  [[nodiscard]] Extent extent() const { return {(work.in_place ? target : source).data(), target.data(), bytes}; }
  Workload work;
  std::size_t bytes;
  Buffer source;
  Buffer target;
};

std::string check(Player& player, const Tensor& tensor, int size) {
  std::vector<std::byte> result(tensor.bytes);
  player.read(tensor.target, result);
  player.synchronize();
  return conformance::check_result(tensor.work, size, result);
}

std::vector<Workload> reductions(std::span<const std::uint64_t> counts) {
  std::vector<Workload> all;
  for (const DataType type : kTypes)
    for (const ReduceOp op : kOps)
      for (const std::uint64_t count : counts)
        if (collectives::is_supported(type, op))
          all.push_back({{Collective::allreduce, type, op, Rank{0}, count}, all.size() % 2 == 0, false, all.size()});
  return all;
}

void run_all(Player& player, const std::vector<Workload>& workloads, int size, Checks& checks) {
  for (const Workload& workload : workloads) {
    const Tensor tensor(player, workload, player.rank());
    engine::Work* work = player.device().run_device(workload.signature, tensor.extent(), player.stream());
    checks.that(check(player, tensor, size).empty(), conformance::describe(workload).c_str());
    checks.that(player.end(work).contributors == size);
  }
}

TEST_CASE("allreduce_of_device_memory_is_right_over_nccl_and_over_the_host") {
  const int size = GENERATE(1, 2, 3);
  const bool nccl = GENERATE(true, false);
  Checks checks;
  const std::uint64_t before = emulated::nccl_operations();
  run_job(size, nccl ? with_nccl : without_nccl, [&](Player& player) {
    if (nccl) checks.that(player.reach_communicator());
    const std::uint64_t counts[] = {0, 1, 1001};
    run_all(player, reductions(counts), size, checks);
    player.leave();
  });
  CHECK(checks.wrong == 0);
  if (nccl)
    CHECK(emulated::nccl_operations() > before + reductions({}).size());
  else
    CHECK(emulated::nccl_operations() == before);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("broadcast_of_device_memory_brings_the_root_s_bytes") {
  constexpr int kSize = 3;
  const bool nccl = GENERATE(true, false);
  Checks checks;
  run_job(kSize, nccl ? with_nccl : without_nccl, [&](Player& player) {
    if (nccl) checks.that(player.reach_communicator());
    for (const DataType type : {DataType::float16, DataType::uint8, DataType::float64})
      for (int root = 0; root < kSize; ++root) {
        const Workload workload{{Collective::broadcast, type, ReduceOp::sum, Rank{root}, 777}, true, false, 5};
        const Tensor tensor(player, workload, player.rank());
        engine::Work* work = player.device().run_device(workload.signature, tensor.extent(), player.stream());
        checks.that(check(player, tensor, kSize).empty(), conformance::describe(workload).c_str());
        player.end(work);
      }
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("named_device_tensors_meet_in_any_order_and_are_fused") {
  constexpr int kSize = 3, kTensors = 40, kRounds = 5;
  Checks checks;
  std::atomic<std::uint64_t> before{0};
  run_job(kSize, with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    if (player.rank() == 0) before = emulated::nccl_operations();
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::unique_ptr<Tensor>> tensors;
      std::vector<engine::Work*> works;
      for (int i = 0; i < kTensors; ++i) {
        const int t = (i * 7 + player.rank() * 5 + round) % kTensors;
        const Workload workload{{Collective::allreduce, t % 4 == 0 ? DataType::bfloat16 : DataType::float32,
                                 ReduceOp::average, Rank{0}, static_cast<std::uint64_t>(t * 13)},
                                t % 2 == 0,
                                false,
                                static_cast<std::uint64_t>(t)};
        tensors.push_back(std::make_unique<Tensor>(player, workload, player.rank()));
        works.push_back(player.device().submit_device("t" + std::to_string(t), workload.signature,
                                                      tensors.back()->extent(), player.stream()));
      }
      for (std::size_t i = 0; i < works.size(); ++i) {
        player.device().order(*works[i], player.stream());
        checks.that(check(player, *tensors[i], kSize).empty());
        player.end(works[i]);
      }
    }
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_call_does_not_wait_for_the_device_and_streams_are_in_order") {
  constexpr int kSize = 2;
  Checks checks;
  run_job(kSize, with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const Buffer buffer(player.driver(), sizeof(float));
    const float one = 1;
    float result = 0;
    emulated::Gate gate(player.stream().handle);
    player.write(buffer, std::as_bytes(std::span(&one, 1)));  // behind the gate, and the first call behind it
    std::vector<engine::Work*> works;
    for (int i = 0; i < 5; ++i) works.push_back(player.allreduce(buffer, 1, DataType::float32, ReduceOp::sum));
    player.read(buffer, std::as_writable_bytes(std::span(&result, 1)));
    for (const engine::Work* work : works) checks.that(!work->done());
    gate.open();
    player.synchronize();
    checks.that(result == 32, std::to_string(result).c_str());  // 2^5
    for (engine::Work* work : works) player.end(work);
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("ranks_that_disagree_about_device_memory_all_get_the_same_error") {
  constexpr int kSize = 2;
  Checks checks;
  run_job(kSize, with_nccl, [&](Player& player) {
    const Buffer buffer(player.driver(), 64);
    const auto count = static_cast<std::uint64_t>(4 + player.rank());
    std::string said;
    try {
      player.allreduce(buffer, count, DataType::float32, ReduceOp::sum);
    } catch (const Error& error) {
      checks.that(error.code() == StatusCode::mismatch);
      said = error.what();
    }
    checks.that(said.find("allreduce sum of 4 float32") != std::string::npos, said.c_str());
    checks.that(said.find("allreduce sum of 5 float32") != std::string::npos, said.c_str());
    checks.that(player.end(player.allreduce(buffer, 4, DataType::float32, ReduceOp::max)).contributors == kSize);
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("where_one_rank_has_no_nccl_the_host_carries_device_memory") {
  constexpr int kSize = 3;
  Checks checks;
  const std::uint64_t before = emulated::nccl_operations();
  run_job(
      kSize, [](int rank) { return emulated::runtime(rank != 1); },
      [&](Player& player) {
        const std::uint64_t counts[] = {33};
        run_all(player, reductions(counts), kSize, checks);
        player.leave();
      });
  CHECK(checks.wrong == 0);
  CHECK(emulated::nccl_operations() == before);
  CHECK(emulated::live() == emulated::Live{});
}

}  // namespace
}  // namespace hora::device_test
