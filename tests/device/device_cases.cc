#include "device_cases.h"

#include <string>

#include "collectives/reduce_kernels.h"

namespace hora::device_test {

namespace {

using conformance::Workload;

constexpr DataType kTypes[] = {DataType::float16, DataType::bfloat16, DataType::float32,
                               DataType::float64, DataType::int8,     DataType::int16,
                               DataType::int32,   DataType::int64,    DataType::uint8};
constexpr ReduceOp kOps[] = {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max, ReduceOp::product};

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

// Rank r contributes 2^r, so that a sum names its contributors.
constexpr double share(int rank) {
  return static_cast<double>(1 << rank);
}

}  // namespace

int wrongs_of_reductions(const Setting& setting) {
  Checks checks;
  run_job(setting.size, setting.runtimes, [&](Player& player) {
    if (setting.nccl) checks.that(player.reach_communicator());
    const std::uint64_t counts[] = {0, 1, 1001};
    run_all(player, reductions(counts), setting.size, checks);
    player.leave();
  });
  return checks.wrong;
}

int wrongs_of_broadcasts(const Setting& setting) {
  Checks checks;
  run_job(setting.size, setting.runtimes, [&](Player& player) {
    if (setting.nccl) checks.that(player.reach_communicator());
    std::vector<Workload> workloads;
    for (const DataType type : {DataType::float16, DataType::uint8, DataType::float64})
      for (int root = 0; root < setting.size; ++root)
        workloads.push_back({{Collective::broadcast, type, ReduceOp::sum, Rank{root}, 777}, true, false, 5});
    run_all(player, workloads, setting.size, checks);
    player.leave();
  });
  return checks.wrong;
}

int wrongs_of_named_tensors(const Setting& setting) {
  constexpr int kTensors = 40, kRounds = 5;
  Checks checks;
  run_job(setting.size, setting.runtimes, [&](Player& player) {
    if (setting.nccl) checks.that(player.reach_communicator());
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::unique_ptr<Tensor>> tensors;
      std::vector<engine::Work*> works;
      for (int i = 0; i < kTensors; ++i) {
        const int t = (i * 7 + player.rank() * 5 + round) % kTensors;  // another order on each rank
        const DataType type = t % 4 == 0 ? DataType::bfloat16 : DataType::float32;
        const auto count = static_cast<std::uint64_t>(t * 13);
        const Workload workload{{Collective::allreduce, type, ReduceOp::average, Rank{0}, count},
                                t % 2 == 0,
                                false,
                                static_cast<std::uint64_t>(t)};
        tensors.push_back(std::make_unique<Tensor>(player, workload, player.rank()));
        works.push_back(player.device().submit_device("t" + std::to_string(t), workload.signature,
                                                      tensors.back()->extent(), player.stream()));
      }
      for (std::size_t i = 0; i < works.size(); ++i) {
        player.device().order(*works[i], player.stream());
        checks.that(check(player, *tensors[i], setting.size).empty());
        player.end(works[i]);
      }
    }
    player.leave();
  });
  return checks.wrong;
}

int wrongs_of_disagreements(const Setting& setting) {
  Checks checks;
  run_job(setting.size, setting.runtimes, [&](Player& player) {
    const Buffer buffer(player.driver(), 64);
    std::string said;
    try {
      player.allreduce(buffer, static_cast<std::uint64_t>(4 + player.rank() % 2), DataType::float32, ReduceOp::sum);
    } catch (const Error& error) {
      checks.that(error.code() == StatusCode::mismatch);
      said = error.what();
    }
    for (const char* call : {"allreduce sum of 4 float32", "allreduce sum of 5 float32"})
      checks.that(said.find(call) != std::string::npos, said.c_str());
    engine::Work* work = player.allreduce(buffer, 4, DataType::float32, ReduceOp::max);
    checks.that(player.end(work).contributors == setting.size);
    player.leave();
  });
  return checks.wrong;
}

int wrongs_of_deaths(const Setting& setting) {
  constexpr int kOperations = 12;
  constexpr std::size_t kCount = 5000;
  Checks checks;
  for (int death = 0; death < kOperations; death += 3) {
    const int victim = death % setting.size;
    std::vector<std::vector<double>> sums(static_cast<std::size_t>(setting.size));
    run_job(setting.size, setting.runtimes, [&](Player& player) {
      if (setting.nccl) checks.that(player.reach_communicator());
      const std::vector<double> input(kCount, share(player.rank()));
      std::vector<double> result(kCount);
      const Buffer buffer(player.driver(), kCount * sizeof(double));
      for (int i = 0; i < kOperations; ++i) {
        player.write(buffer, std::as_bytes(std::span(input)));
        engine::Work* work = player.allreduce(buffer, kCount, DataType::float64, ReduceOp::sum);
        if (player.rank() == victim && i == death) {
          player.die();  // with the operation on its way
          return player.synchronize();
        }
        player.read(buffer, std::as_writable_bytes(std::span(result)));
        player.synchronize();
        player.end(work);
        checks.that(std::equal(result.begin() + 1, result.end(), result.begin()), "elements differ");
        sums[static_cast<std::size_t>(player.rank())].push_back(result[0]);
      }
      if (setting.nccl) checks.that(player.reach_communicator());
      player.leave();
    });
    const double all = share(setting.size) - 1, without = all - share(victim);
    const auto& first = sums[victim == 0 ? 1 : 0];
    for (int rank = 0; rank < setting.size; ++rank)
      if (rank != victim) checks.that(sums[static_cast<std::size_t>(rank)] == first, "survivors differ");
    for (std::size_t i = 0; i < first.size(); ++i) {
      if (static_cast<int>(i) < death) checks.that(first[i] == all);
      if (static_cast<int>(i) == death) checks.that(first[i] == all || first[i] == without);
      if (static_cast<int>(i) > death) checks.that(first[i] == without);
    }
  }
  return checks.wrong;
}

}  // namespace hora::device_test
