#include "driver.h"

#include <atomic>
#include <thread>

namespace hora::conformance {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Step complete(GroupTransport& group, const Operation& operation) {
  const auto deadline = Clock::now() + kDeadline;
  Step step = group.start(operation);
  while (step == Step::pending && Clock::now() < deadline) {
    std::this_thread::yield();
    step = group.step(operation.channel);
  }
  return step;
}

Step complete_asleep(GroupTransport& group, const Operation& operation, bool& overslept) {
  const std::atomic<std::uint32_t> wake_word{0};
  const auto deadline = Clock::now() + kDeadline;
  Step step = group.start(operation);
  while (step == Step::pending && !overslept) {
    group.begin_sleep();
    step = group.step(operation.channel);
    if (step == Step::pending) group.sleep(wake_word, 0, deadline - Clock::now());
    group.end_sleep();
    overslept = Clock::now() >= deadline;
  }
  return step;
}

std::vector<int> ranks_here(const Job& job, int size) {
  std::vector<int> ranks;
  for (int rank = 0; rank < size; ++rank)
    if (job.holds(rank)) ranks.push_back(rank);
  return ranks;
}

void run_ranks(Job& job, int size, const std::function<void(int, GroupTransport&)>& body) {
  std::vector<std::thread> threads;
  for (const int rank : ranks_here(job, size)) {
    if (job.bound_to_thread())
      body(rank, job.group(rank));
    else
      threads.emplace_back([&, rank] { body(rank, job.group(rank)); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace hora::conformance
