// Ranks as threads over one mapping (which the thread sanitizer can follow) and as processes.
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <thread>

#include "base/futex.h"
#include "unit/shm/world.h"

namespace hora::shm::test {
namespace {

// Runs operations of changing kind and size; waits by yielding, or by sleeping after a few fruitless steps.
bool run_rank(ShmGroup& group, int rank, int size, std::uint64_t operations, bool sleepy) {
  std::atomic<std::uint32_t> wake{0};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (std::uint64_t sequence = 1; sequence <= operations; ++sequence) {
    const auto kind = static_cast<Collective>(sequence % 4);
    const std::size_t count = sequence % 3 == 0 ? 1 : sequence % 3 == 1 ? 200 : 5000;
    const Shape shape =
        make_shape(kind, DataType::int32, ReduceOp::sum,
                   kind == Collective::barrier ? std::vector<std::size_t>{} : std::vector<std::size_t>{count},
                   sequence % 2 == 0, static_cast<int>(sequence % static_cast<std::uint64_t>(size)));
    Buffers buffers = make_buffers(shape, rank, size);
    Step step = group.start({Channel::negotiated, sequence, shape.signature, buffers.extents});
    while (step == Step::pending) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      step = group.step(Channel::negotiated);
      if (step != Step::pending) break;
      if (!sleepy) {
        std::this_thread::yield();
        continue;
      }
      group.begin_sleep();
      step = group.step(Channel::negotiated);
      if (step == Step::pending) group.sleep(wake, 0, std::chrono::seconds(10));
      group.end_sleep();
    }
    if (step != Step::done || buffers.targets != expected_outputs(shape, rank, size)) return false;
  }
  return true;
}

TEST_CASE("threads agree, whether they spin or sleep") {
  for (const int size : {2, 3}) {
    for (const bool sleepy : {false, true}) {
      World world(size);
      std::atomic<int> right{0};
      std::vector<std::thread> threads;
      for (int rank = 0; rank < size; ++rank)
        threads.emplace_back(
            [&, rank] { right += run_rank(*world.groups[static_cast<std::size_t>(rank)], rank, size, 200, sleepy); });
      for (std::thread& thread : threads) thread.join();
      CHECK(right == size);
    }
  }
}

// A rank in a process of its own: gives its segment to the parent and gets everybody's from it.
[[noreturn]] void run_child(int link, int rank, const View& view, bool sleepy) {
  const auto self = view.members[static_cast<std::size_t>(rank)].id;
  const std::unique_ptr<Segment> own = std::move(Segment::create(self, kSmallLayout)).value();
  if (!send_fd(link, own->fd())) _exit(2);
  std::vector<std::unique_ptr<Segment>> peers;
  std::vector<const Segment*> members;
  for (const Member& member : view.members) {
    UniqueFd fd = receive_fd(link);
    if (member.id == self) {
      members.push_back(own.get());
      continue;
    }
    peers.push_back(Segment::attach(std::move(fd), member.id, kSmallLayout).value());
    members.push_back(peers.back().get());
  }
  ShmGroup group(*own, members, view);
  _exit(run_rank(group, rank, view.size(), 300, sleepy) ? 0 : 1);
}

TEST_CASE("processes agree, whether they spin or sleep") {
  const View view = make_view(3);
  for (const bool sleepy : {false, true}) {
    std::vector<UniqueFd> links;
    std::vector<pid_t> children;
    for (int rank = 0; rank < view.size(); ++rank) {
      int link[2];
      REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link) == 0);
      children.push_back(::fork());
      if (children.back() == 0) run_child(link[1], rank, view, sleepy);
      ::close(link[1]);
      links.emplace_back(link[0]);
    }
    std::vector<UniqueFd> segments;
    for (const UniqueFd& link : links) segments.push_back(receive_fd(link.get()));
    for (const UniqueFd& link : links)
      for (const UniqueFd& segment : segments) REQUIRE(send_fd(link.get(), segment.get()));
    for (const pid_t child : children) {
      int status = -1;
      REQUIRE(::waitpid(child, &status, 0) == child);
      CHECK(WIFEXITED(status));
      CHECK(WEXITSTATUS(status) == 0);
    }
  }
}

TEST_CASE("the wake word ends a sleep, and so does the timeout") {
  World world(2);
  const Signature signature{Collective::barrier, DataType::uint8, ReduceOp::sum, Rank{0}, 0};
  REQUIRE(world.groups[0]->start({Channel::ordered, 1, signature, {}}) == Step::pending);
  std::atomic<std::uint32_t> wake{0};
  world.groups[0]->begin_sleep();
  world.groups[0]->sleep(wake, 0, std::chrono::milliseconds(1));
  std::thread waker([&] {
    wake.store(1);
    futex_wake_all(wake, FutexScope::process);
  });
  // Returns at once where the word has changed already.
  while (wake.load() == 0) world.groups[0]->sleep(wake, 0, std::chrono::seconds(20));
  world.groups[0]->end_sleep();
  waker.join();
  CHECK(world.groups[0]->step(Channel::ordered) == Step::pending);
}

}  // namespace
}  // namespace hora::shm::test
