// Device memory through both fronts: every type and operator, over NCCL and over the host, in the order of streams.
#include <catch2/catch.hpp>
#include <string>

#include "device_cases.h"
#include "emulated_gpu.h"

namespace hora::device_test {
namespace {

Setting setting(int size, bool nccl) {
  return {size, nccl ? emulated::with_nccl : emulated::without_nccl, nccl};
}

TEST_CASE("allreduce_of_device_memory_is_right_over_nccl_and_over_the_host") {
  const int size = GENERATE(1, 2, 3);
  const bool nccl = GENERATE(true, false);
  const std::uint64_t before = emulated::nccl_operations();
  CHECK(wrongs_of_reductions(setting(size, nccl)) == 0);
  CHECK((emulated::nccl_operations() > before + 100) == nccl);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("broadcast_of_device_memory_brings_the_root_s_bytes") {
  CHECK(wrongs_of_broadcasts(setting(3, GENERATE(true, false))) == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("named_device_tensors_meet_in_any_order") {
  CHECK(wrongs_of_named_tensors(setting(3, GENERATE(true, false))) == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("ranks_that_disagree_about_device_memory_all_get_the_same_error") {
  CHECK(wrongs_of_disagreements(setting(2, true)) == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("survivors_of_a_death_agree_wherever_the_victim_was") {
  CHECK(wrongs_of_deaths(setting(3, GENERATE(true, false))) == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("where_one_rank_has_no_nccl_the_host_carries_device_memory") {
  const std::uint64_t before = emulated::nccl_operations();
  CHECK(wrongs_of_broadcasts({3, [](int rank) { return emulated::runtime(rank != 1); }, false}) == 0);
  CHECK(emulated::nccl_operations() == before);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_call_does_not_wait_for_the_device_and_streams_are_in_order") {
  constexpr int kSize = 2;
  Checks checks;
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
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

}  // namespace
}  // namespace hora::device_test
