// Sleeping while nothing can be done: every wake-up comes, from peers and from the wake word.
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <climits>
#include <memory>
#include <thread>
#include <vector>

#include "driver.h"
#include "workload.h"

namespace hora::conformance {
namespace {

TEST_CASE("a_sleeping_rank_wakes_when_a_peer_moves") {
  constexpr std::size_t kMany = 60;
  for (const Implementation& implementation : implementations())
    for (const int size : {2, 4}) {
      INFO(implementation.name << ", " << size << " ranks");
      const auto job = implementation.make(founding_view(implementation, size));
      std::vector<std::vector<std::unique_ptr<Tensors>>> tensors(static_cast<std::size_t>(size));
      const auto workload_at = [](std::size_t i) {
        const std::uint64_t count = i % 3 == 0 ? 12 * kChunkBytes + 5 : i;
        return Workload{{Collective::allreduce, DataType::int32, ReduceOp::sum, Rank{0}, count}, i % 2 == 0, false, i};
      };
      for (std::size_t r = 0; r < tensors.size(); ++r)
        for (std::size_t i = 0; i < kMany; ++i)
          tensors[r].push_back(std::make_unique<Tensors>(workload_at(i), static_cast<int>(r), size));
      std::vector<char> overslept(tensors.size());
      run_ranks(*job, size, [&](int rank, GroupTransport& group) {
        const auto r = static_cast<std::size_t>(rank);
        bool late = false;
        for (std::size_t i = 0; i < kMany && !late; ++i)
          complete_asleep(group, tensors[r][i]->operation(Channel::ordered, i + 1), late);
        overslept[r] = late;
      });
      for (const int rank : ranks_here(*job, size)) {
        const auto r = static_cast<std::size_t>(rank);
        REQUIRE_FALSE(overslept[r]);
        for (std::size_t i = 0; i < kMany; ++i)
          CHECK(check_result(workload_at(i), size, tensors[r][i]->result()) == "");
      }
    }
}

TEST_CASE("a_change_of_the_wake_word_ends_sleep") {
  for (const Implementation& implementation : implementations()) {
    INFO(implementation.name);
    const auto job = implementation.make(founding_view(implementation, 2));
    if (!job->holds(0)) continue;
    GroupTransport& group = job->group(0);
    REQUIRE(group.start({Channel::ordered, 1, {}, {}}) == Step::pending);
    std::atomic<std::uint32_t> word{0};
    std::atomic<bool> ended{false};
    const auto start = std::chrono::steady_clock::now();
    std::thread sleeper([&] {
      while (word.load() == 0) {
        group.begin_sleep();
        group.step(Channel::ordered);
        group.sleep(word, 0, kDeadline);
        group.end_sleep();
      }
      ended = true;
    });
    word.store(1);
    ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
    group.wake();
    sleeper.join();
    CHECK(ended);
    CHECK(std::chrono::steady_clock::now() - start < kDeadline);
  }
}

TEST_CASE("sleep_ends_at_its_timeout") {
  for (const Implementation& implementation : implementations()) {
    INFO(implementation.name);
    const auto job = implementation.make(founding_view(implementation, 2));
    if (!job->holds(0)) continue;
    GroupTransport& group = job->group(0);
    REQUIRE(group.start({Channel::ordered, 1, {}, {}}) == Step::pending);
    const std::atomic<std::uint32_t> word{0};
    group.begin_sleep();
    REQUIRE(group.step(Channel::ordered) == Step::pending);
    group.sleep(word, 0, std::chrono::milliseconds(2));
    group.end_sleep();
    CHECK(group.step(Channel::ordered) == Step::pending);
  }
}

}  // namespace
}  // namespace hora::conformance
