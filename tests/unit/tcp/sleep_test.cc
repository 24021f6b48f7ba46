// Sleeping on sockets: what is waited for wakes, and nothing else does.
#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

#include "unit/tcp/two_members.h"

namespace hora::tcp {
namespace {

using Clock = std::chrono::steady_clock;

const Tag kFirst{Epoch{1}, 0, 1, 1};
const Tag kOther{Epoch{1}, 0, 1, 2};

struct Slept {
  bool moved;
  Duration lasted;
};

// As the engine does: tries once more after begin_sleep().
template <typename Attempt>
Slept sleep_unless(SocketPairs& links, const Attempt& attempt, Duration timeout,
                   const std::atomic<std::uint32_t>& word) {
  links.begin_sleep();
  const auto start = Clock::now();
  const bool moved = attempt();
  if (!moved) links.sleep(word, 0, timeout);
  links.end_sleep();
  return {moved, Clock::now() - start};
}

TEST_CASE("an_awaited_message_ends_sleep") {
  const Wire wire = GENERATE(Wire::tcp, Wire::narrow_tcp, Wire::local);
  INFO("wire " << static_cast<int>(wire));
  TwoMembers two(wire);
  const std::atomic<std::uint32_t> word{0};
  Bytes received(100);
  std::thread sender([&] { two.send(kFirst, pattern(100, 1)); });
  bool came = false;
  const auto deadline = Clock::now() + kDeadline;
  while (!came && Clock::now() < deadline)
    came = sleep_unless(
               *two.ends[1], [&] { return two.receive(kFirst, received); }, kDeadline, word)
               .moved;
  sender.join();
  CHECK(came);
  CHECK(Clock::now() < deadline);
  CHECK(received == pattern(100, 1));
}

TEST_CASE("room_on_a_full_link_ends_sleep") {
  const Wire wire = GENERATE(Wire::tcp, Wire::narrow_tcp, Wire::local);
  INFO("wire " << static_cast<int>(wire));
  TwoMembers two(wire);
  const std::atomic<std::uint32_t> word{0};
  const Bytes data = pattern(4 << 20, 1);
  Bytes received(data.size());
  const auto deadline = Clock::now() + kDeadline;
  std::thread receiver([&] {
    while (!two.receive(kFirst, received) && Clock::now() < deadline) {
    }
  });
  bool sent = false;
  while (!sent && Clock::now() < deadline)
    sent = sleep_unless(
               *two.ends[0], [&] { return two.send(kFirst, data); }, kDeadline, word)
               .moved;
  receiver.join();
  CHECK(sent);
  CHECK(Clock::now() < deadline);
  CHECK(received == data);
}

TEST_CASE("what_nobody_waits_for_does_not_end_sleep") {
  const Wire wire = GENERATE(Wire::tcp, Wire::local);
  INFO("wire " << static_cast<int>(wire));
  constexpr std::chrono::milliseconds kNap(30);
  TwoMembers two(wire, 1);
  const std::atomic<std::uint32_t> word{0};
  const Bytes large = pattern(70'000, 1);  // more than is kept unasked
  REQUIRE(two.send(kOther, large));
  Bytes received(8);
  SECTION("a message at the head of the stream that was not asked for") {
    const auto deadline = Clock::now() + kDeadline;
    Duration lasted{};
    while (lasted < kNap && Clock::now() < deadline)  // it may still be on its way at first
      lasted = sleep_unless(
                   *two.ends[1], [&] { return two.receive(kFirst, received); }, kNap, word)
                   .lasted;
    CHECK(lasted >= kNap);
  }
  SECTION("a message on a link that nothing was asked of") {
    CHECK(sleep_unless(
              *two.ends[1], [] { return false; }, kNap, word)
              .lasted >= kNap);
  }
  SECTION("a link that was closed") {
    two.raw.clear();
    two.ends[0].reset();
    Bytes other(large.size());
    while (!two.receive(kOther, other)) {
    }
    const auto deadline = Clock::now() + kDeadline;
    Duration lasted{};
    while (lasted < kNap && Clock::now() < deadline)
      lasted = sleep_unless(
                   *two.ends[1], [&] { return two.receive(kFirst, received); }, kNap, word)
                   .lasted;
    CHECK(lasted >= kNap);
  }
}

TEST_CASE("a_call_ends_sleep_whenever_it_comes") {
  const Wire wire = GENERATE(Wire::tcp, Wire::narrow_tcp, Wire::local);
  INFO("wire " << static_cast<int>(wire));
  TwoMembers two(wire);
  for (int i = 0; i < 2000; ++i) {
    std::atomic<std::uint32_t> word{0};
    const auto start = Clock::now();
    std::thread caller([&] {
      word.store(1, std::memory_order_relaxed);
      two.ends[1]->wake();
    });
    while (word.load(std::memory_order_relaxed) == 0) {
      two.ends[1]->begin_sleep();
      two.ends[1]->sleep(word, 0, kDeadline);
      two.ends[1]->end_sleep();
    }
    caller.join();
    REQUIRE(Clock::now() - start < kDeadline);
  }
}

}  // namespace
}  // namespace hora::tcp
