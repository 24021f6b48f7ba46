// Ranks die and communicators fail in the middle of device operations: no stream goes on with a result that is later
// another one, all survivors have the same bits, and NCCL takes over again.
#include <barrier>
#include <catch2/catch.hpp>
#include <cstring>

#include "emulated_gpu.h"
#include "sums.h"

namespace hora::device_test {
namespace {

void check_sums(const std::vector<std::vector<double>>& sums, int victim, int size) {
  const double all = share(size) - 1;
  const std::vector<double>* first = nullptr;
  for (int rank = 0; rank < size; ++rank) {
    if (rank == victim) continue;
    const auto& mine = sums[static_cast<std::size_t>(rank)];
    if (first == nullptr) first = &mine;
    CHECK(mine == *first);
    for (const double sum : mine) CHECK((sum == all || sum == all - share(victim)));
  }
}

TEST_CASE("survivors_of_a_death_amid_device_operations_agree_and_return_to_nccl") {
  constexpr int kSize = 3, kOperations = 6;
  const int victim = GENERATE(0, 1, 2);
  Checks checks;
  std::vector<std::vector<double>> sums(kSize);
  std::atomic<int> enqueued{0};
  const auto nccl = GENERATE(emulated::with_nccl, emulated::with_old_nccl);
  run_job(kSize, nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    Sums mine(player, kOperations);
    mine.enqueue(0);
    player.synchronize();
    if (player.rank() == victim) {
      emulated::let_rank_hang(victim);
      for (std::size_t i = 1; i < 4; ++i) mine.enqueue(i);
      ++enqueued;
      while (enqueued < kSize) std::this_thread::yield();
      player.die();
      player.synchronize();  // its stream goes on, too
      return;
    }
    for (std::size_t i = 1; i < 4; ++i) mine.enqueue(i);
    ++enqueued;
    for (std::size_t i = 4; i < kOperations; ++i) mine.enqueue(i);  // the host carries them
    sums[static_cast<std::size_t>(player.rank())] = mine.end();
    checks.that(mine.contributors.back() == kSize - 1);
    checks.that(player.reach_communicator());
    const std::uint64_t before = emulated::nccl_operations();
    Sums again(player, 1);
    again.enqueue(0);
    checks.that(again.end().front() == share(kSize) - 1 - share(victim));
    checks.that(emulated::nccl_operations() > before);
    player.leave();
  });
  CHECK(checks.wrong == 0);
  check_sums(sums, victim, kSize);
  for (int rank = 0; rank < kSize; ++rank)
    if (rank != victim) CHECK(sums[static_cast<std::size_t>(rank)].front() == share(kSize) - 1);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_result_that_one_survivor_has_released_is_forwarded_to_the_other") {
  constexpr int kSize = 3, kVictim = 2, kLoser = 1;
  const auto count = GENERATE(as<std::size_t>{}, 1000, 300'000);  // the second in several chunks
  Checks checks;
  std::vector<std::vector<double>> sums(kSize);
  std::atomic<int> released{0};
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    Sums mine(player, 3, count);
    mine.enqueue(0);
    player.synchronize();
    if (player.rank() == kLoser) emulated::let_result_be_lost(kLoser), ++released;
    while (released < 1) std::this_thread::yield();
    mine.enqueue(1);
    if (player.rank() != kLoser) player.synchronize();  // done here, with the victim's share: the caller may act on it
    mine.enqueue(2);
    ++released;
    if (player.rank() == kVictim) {
      while (released < 1 + kSize) std::this_thread::yield();
      player.die();
      player.synchronize();
      return;
    }
    sums[static_cast<std::size_t>(player.rank())] = mine.end();
    checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
  const double all = share(kSize) - 1;
  for (const int rank : {0, 1})
    CHECK(sums[static_cast<std::size_t>(rank)] == std::vector<double>{all, all, all - share(kVictim)});
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_broadcast_whose_root_died_fails_everywhere_and_streams_go_on") {
  constexpr int kSize = 3, kVictim = 0;
  Checks checks;
  std::atomic<int> enqueued{0};
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const Buffer buffer(player.driver(), sizeof(double));
    const double mine = share(player.rank());
    double result = -1;
    player.write(buffer, std::as_bytes(std::span(&mine, 1)));
    player.synchronize();
    if (player.rank() == kVictim) emulated::let_rank_hang(kVictim);
    const Extent extent{buffer.data(), buffer.data(), sizeof(double)};
    engine::Work* work = player.device().run_device(
        {Collective::broadcast, DataType::float64, ReduceOp::sum, Rank{kVictim}, 1}, extent, player.stream());
    ++enqueued;
    if (player.rank() == kVictim) {
      while (enqueued < kSize) std::this_thread::yield();
      player.die();
      return;
    }
    player.read(buffer, std::as_writable_bytes(std::span(&result, 1)));
    player.synchronize();
    checks.that(result == mine);  // nothing was written
    Status status;
    player.end(work, &status);
    checks.that(status.code() == StatusCode::peer_failed, std::string(status.message()).c_str());
    checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_communicator_that_fails_is_replaced_though_nobody_died") {
  constexpr int kSize = 3, kFailing = 1;
  Checks checks;
  std::vector<std::vector<double>> sums(kSize);
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    Sums mine(player, 4);
    mine.enqueue(0);
    player.synchronize();
    if (player.rank() == kFailing) emulated::let_rank_fail(kFailing);
    for (std::size_t i = 1; i < 4; ++i) mine.enqueue(i);
    sums[static_cast<std::size_t>(player.rank())] = mine.end();
    checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
  for (const auto& of_rank : sums) CHECK(of_rank == std::vector<double>(4, share(kSize) - 1));
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_rank_without_memory_for_the_stage_lets_the_host_carry_the_operation") {
  constexpr int kSize = 2;
  Checks checks;
  std::barrier buffers_made(kSize);
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const std::size_t count = 100'000;  // more than any block that is free
    const Buffer buffer(player.driver(), count * sizeof(double));
    const std::vector<double> input(count, share(player.rank()));
    std::vector<double> result(count);
    player.write(buffer, std::as_bytes(std::span(input)));
    player.synchronize();
    buffers_made.arrive_and_wait();  // whichever rank allocates next fails, and it must not be this test
    if (player.rank() == 1) emulated::let_allocation_fail();
    player.end(player.allreduce(buffer, count, DataType::float64, ReduceOp::sum));
    player.read(buffer, std::as_writable_bytes(std::span(result)));
    player.synchronize();
    checks.that(result == std::vector<double>(count, share(kSize) - 1));
    checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

}  // namespace
}  // namespace hora::device_test
