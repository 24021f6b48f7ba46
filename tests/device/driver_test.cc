// What a real driver punishes: full streams, shared queues, calls that wait for the whole device, contexts, captures,
// and a device that is lost.
#include <catch2/catch.hpp>
#include <string>
#include <thread>

#include "emulated_gpu.h"
#include "sums.h"

namespace hora::device_test {
namespace {

engine::Work* submit_sum(Player& player, const Buffer& buffer, int i) {
  const Extent extent{buffer.data(), buffer.data(), kCount * sizeof(double)};
  return player.device().submit_device("t" + std::to_string(i),
                                       {Collective::allreduce, DataType::float64, ReduceOp::sum, Rank{0}, kCount},
                                       extent, player.stream());
}

// Calls of the driver block in callers' threads and in the lane's, and no thread that could end that waits for them.
TEST_CASE("a_death_is_heard_of_while_all_streams_are_full") {
  constexpr int kSize = 3, kVictim = 1, kOperations = 64;
  const auto nccl = GENERATE(emulated::with_nccl, emulated::with_old_nccl);
  Checks checks;
  std::vector<std::vector<double>> sums(kSize);
  std::atomic<int> ready{0};
  run_job(kSize, nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    Sums mine(player, kOperations);
    if (player.rank() == kVictim) {
      while (ready < kSize - 1) std::this_thread::yield();
      emulated::limit_streams(16);
      emulated::let_rank_hang(kVictim);
    }
    ++ready;
    while (ready < kSize) std::this_thread::yield();
    if (player.rank() == kVictim) {
      std::vector<engine::Work*> works;
      for (int i = 0; i < kOperations; ++i)
        works.push_back(submit_sum(player, *mine.buffers[static_cast<std::size_t>(i)], i));
      while (emulated::threads_at_full_streams() < kSize) std::this_thread::yield();  // all lanes
      return player.die();
    }
    for (int i = 0; i < kOperations; ++i) {
      const auto at = static_cast<std::size_t>(i);
      mine.works.push_back(submit_sum(player, *mine.buffers[at], i));
      player.device().order(*mine.works.back(), player.stream());
      player.read(*mine.buffers[at], std::as_writable_bytes(std::span(mine.results[at])));
    }
    sums[static_cast<std::size_t>(player.rank())] = mine.end();
    checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(sums[0] == std::vector<double>(kOperations, share(0) + share(2)));
  CHECK(sums[2] == sums[0]);
  emulated::lift_limits();
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("more_operations_than_streams_take_go_through_them_one_after_another") {
  constexpr int kSize = 2, kOperations = 200;
  Checks checks;
  const std::uint64_t before = emulated::nccl_operations();
  const auto one_by_one = [](Options& options) { options.fusion_bytes = 0; };
  const auto body = [&](Player& player) {
    checks.that(player.reach_communicator());
    Sums mine(player, kOperations);
    for (int i = 0; i < kOperations; ++i)
      mine.works.push_back(submit_sum(player, *mine.buffers[static_cast<std::size_t>(i)], i));
    for (engine::Work* work : mine.works) work->owner.wait(*work, std::nullopt);
    for (std::size_t i = 0; i < kOperations; ++i)
      player.read(*mine.buffers[i], std::as_writable_bytes(std::span(mine.results[i])));
    checks.that(mine.end() == std::vector<double>(kOperations, share(kSize) - 1));
    player.leave();
  };
  run_job(kSize, emulated::with_nccl, body, one_by_one);
  CHECK(checks.wrong == 0);
  CHECK(emulated::nccl_operations() >= before + kSize * kOperations);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("streams_that_share_a_queue_of_the_device_do_not_hold_up_the_host") {
  constexpr int kSize = 3, kVictim = 2, kStreams = 8, kOperations = 12;
  Checks checks;
  std::vector<std::vector<double>> sums(kSize);
  std::atomic<int> enqueued{0};
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    std::vector<cuda::StreamHandle> streams(kStreams);
    for (auto& stream : streams) player.driver().stream_create(&stream, cuda::kStreamNonBlocking, 0);
    Sums mine(player, kOperations);
    if (player.rank() == kVictim) emulated::let_rank_hang(kVictim);
    for (std::size_t i = 0; i < kOperations; ++i) {
      const Extent extent{mine.buffers[i]->data(), mine.buffers[i]->data(), kCount * sizeof(double)};
      mine.works.push_back(player.device().run_device(
          {Collective::allreduce, DataType::float64, ReduceOp::sum, Rank{0}, kCount}, extent, {streams[i % kStreams]}));
    }
    ++enqueued;
    if (player.rank() == kVictim) {
      while (enqueued < kSize) std::this_thread::yield();
      player.die();
    } else {
      for (engine::Work* work : mine.works) work->owner.wait(*work, std::nullopt);
      for (std::size_t i = 0; i < kOperations; ++i)
        player.read(*mine.buffers[i], std::as_writable_bytes(std::span(mine.results[i])));
      sums[static_cast<std::size_t>(player.rank())] = mine.end();
      checks.that(player.reach_communicator());
      player.leave();
    }
    for (cuda::StreamHandle stream : streams) {
      player.driver().stream_synchronize(stream);
      player.driver().stream_destroy(stream);
    }
  });
  CHECK(checks.wrong == 0);
  CHECK(sums[0] == std::vector<double>(kOperations, share(0) + share(1)));
  CHECK(sums[1] == sums[0]);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_rank_whose_device_is_lost_says_so_and_leaves_the_others") {
  constexpr int kSize = 3, kVictim = 1;
  const auto runtimes = GENERATE(emulated::with_nccl, emulated::without_nccl);
  const bool idle = GENERATE(true, false);
  Checks checks;
  std::atomic<int> ended{0};
  run_job(kSize, runtimes, [&](Player& player) {
    if (runtimes == emulated::with_nccl) checks.that(player.reach_communicator());
    Sums mine(player, 3);
    mine.enqueue(0);
    player.synchronize();
    if (player.rank() == kVictim) {
      std::string said;
      try {
        if (idle) emulated::let_device_be_lost(kVictim);
        engine::Work* work = player.allreduce(*mine.buffers[1], kCount, DataType::float64, ReduceOp::sum);
        if (!idle) emulated::let_device_be_lost(kVictim);
        Status status;
        player.end(work, &status);
        said = status.ok() ? "" : std::string(status.message());
        if (status.ok()) player.allreduce(*mine.buffers[2], kCount, DataType::float64, ReduceOp::sum);
      } catch (const Error& error) {
        checks.that(error.code() == StatusCode::resource);
        said = error.what();
      }
      checks.that(said.find("emulated error") != std::string::npos, said.c_str());
      while (ended < kSize - 1) std::this_thread::yield();  // they do not wait for its death
      return player.die();
    }
    mine.enqueue(1);
    mine.enqueue(2);
    const std::vector<double> sums = mine.end();
    ++ended;
    const double all = share(kSize) - 1;
    checks.that(sums[0] == all);
    for (const double sum : sums) checks.that(sum == all || sum == all - share(kVictim));
    if (runtimes == emulated::with_nccl) checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
}

TEST_CASE("a_member_that_cannot_call_nccl_does_not_keep_the_others_in_it") {
  Checks checks;
  emulated::let_call_fail(1);  // the first operation, in which communicators connect
  run_job(2, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("what_finds_no_memory_on_the_device_goes_through_the_host_and_nccl_stays") {
  constexpr int kSize = 2;
  constexpr std::size_t kLarge = 300'000;
  Checks checks;
  std::atomic<int> ready{0};
  std::uint64_t made = 0;
  run_job(kSize, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const Buffer buffer(player.driver(), kLarge * sizeof(double));
    ++ready;
    if (player.rank() == 0) {
      while (ready < kSize) std::this_thread::yield();
      made = emulated::communicators_made();
      emulated::limit_allocations(1 << 20);
      ++ready;
    }
    while (ready <= kSize) std::this_thread::yield();
    const std::vector<double> input(kLarge, share(player.rank()));
    std::vector<double> result(kLarge);
    for (int i = 0; i < 5; ++i) {
      player.write(buffer, std::as_bytes(std::span(input)));
      player.end(player.allreduce(buffer, kLarge, DataType::float64, ReduceOp::sum));
      player.read(buffer, std::as_writable_bytes(std::span(result)));
      player.synchronize();
      checks.that(result == std::vector<double>(kLarge, share(kSize) - 1));
    }
    checks.that(emulated::communicators_made() == made);
    ++ready;
    while (ready <= 2 * kSize) std::this_thread::yield();  // who is left alone has another communicator
    player.leave();
  });
  emulated::lift_limits();
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("an_operation_that_waits_for_memory_goes_on_when_another_one_gives_it_back") {
  constexpr std::size_t kLarge = 300'000;
  const Signature sum{Collective::allreduce, DataType::float64, ReduceOp::sum, Rank{0}, kLarge};
  Checks checks;
  run_job(1, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const Buffer first(player.driver(), kLarge * sizeof(double)), second(player.driver(), kLarge * sizeof(double));
    player.synchronize();
    emulated::limit_blocks(static_cast<std::size_t>(emulated::live().device_blocks) + 1);
    emulated::Gate gate(player.stream().handle);
    engine::Work* const has_it = player.allreduce(first, kLarge, DataType::float64, ReduceOp::sum);
    engine::Work* const waits = player.device().submit_device(
        "waits", sum, {second.data(), second.data(), kLarge * sizeof(double)}, player.stream());
    const auto agreed_by = std::chrono::steady_clock::now() + std::chrono::milliseconds(100);
    while (std::chrono::steady_clock::now() < agreed_by) std::this_thread::yield();
    gate.open();
    checks.that(player.end(has_it).contributors == 1);
    checks.that(player.device().wait(*waits, std::chrono::seconds(20)) && waits->status.ok());
    player.device().release(waits);
    player.leave();
  });
  emulated::lift_limits();
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_stream_that_captures_a_graph_is_refused_and_others_go_on") {
  Checks checks;
  std::atomic<int> captured{0};
  run_job(2, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const Buffer buffer(player.driver(), sizeof(float));
    const float one = 1;
    float result = 0;
    player.write(buffer, std::as_bytes(std::span(&one, 1)));
    player.synchronize();
    cuda::StreamHandle other = nullptr;
    player.driver().stream_create(&other, cuda::kStreamNonBlocking, 0);
    engine::Work* work = nullptr;
    {
      const emulated::Capture capture(other);
      std::string said;
      try {
        player.device().run_device({Collective::allreduce, DataType::float32, ReduceOp::sum, Rank{0}, 1},
                                   {buffer.data(), buffer.data(), sizeof(float)}, {other});
      } catch (const Error& error) {
        checks.that(error.code() == StatusCode::unsupported);
        said = error.what();
      }
      checks.that(said.find("captures a CUDA graph") != std::string::npos, said.c_str());
      ++captured;
      while (captured < 2) std::this_thread::yield();
      work = player.allreduce(buffer, 1, DataType::float32, ReduceOp::sum);
      player.end(work);
      ++captured;
      while (captured < 4) std::this_thread::yield();
    }
    ++captured;
    while (captured < 6) std::this_thread::yield();
    player.read(buffer, std::as_writable_bytes(std::span(&result, 1)));
    player.synchronize();
    checks.that(result == 2);
    player.driver().stream_destroy(other);
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("calls_need_no_current_context_and_leave_it_as_it_is") {
  Checks checks;
  run_job(2, emulated::with_nccl, [&](Player& player) {
    const Buffer buffer(player.driver(), sizeof(float));
    cuda::ContextHandle foreign = nullptr;
    player.driver().primary_context_retain(&foreign, 7);
    for (cuda::ContextHandle context : {cuda::ContextHandle{}, foreign}) {
      std::thread([&] {
        if (context != nullptr) player.driver().context_set_current(context);
        player.end(player.allreduce(buffer, 1, DataType::float32, ReduceOp::sum));
        cuda::ContextHandle current = nullptr;
        player.driver().context_current(&current);
        checks.that(current == context);
      }).join();
    }
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(emulated::live() == emulated::Live{});
}

TEST_CASE("a_call_that_cannot_make_its_stream_wait_ends_before_it_throws") {
  Checks checks;
  std::atomic<int> threw{0};
  std::atomic<int> ready{0};
  run_job(2, emulated::with_nccl, [&](Player& player) {
    checks.that(player.reach_communicator());
    const Buffer buffer(player.driver(), sizeof(double));
    const double one = 1;
    double result = 0;
    player.write(buffer, std::as_bytes(std::span(&one, 1)));
    player.synchronize();
    const std::uint64_t before = emulated::nccl_operations();
    if (++ready == 2) emulated::let_wait_fail();
    while (ready < 2) std::this_thread::yield();
    std::atomic<bool> opened{false};
    emulated::Gate gate(player.stream().handle);
    std::thread opener([&] {
      while (emulated::nccl_operations() < before + 2) std::this_thread::yield();
      opened = true;
      gate.open();
    });
    try {
      player.end(player.allreduce(buffer, 1, DataType::float64, ReduceOp::sum));
    } catch (const Error&) {
      checks.that(opened);  // until then the device had yet to use the caller's memory
      ++threw;
    }
    opener.join();
    player.read(buffer, std::as_writable_bytes(std::span(&result, 1)));
    player.synchronize();
    checks.that(result == 2);
    player.leave();
  });
  CHECK(checks.wrong == 0);
  CHECK(threw == 1);
  CHECK(emulated::live() == emulated::Live{});
}

}  // namespace
}  // namespace hora::device_test
