// Messages through sockets: cut, interrupted, abandoned, early, malformed.
#include <catch2/catch.hpp>
#include <functional>
#include <set>

#include "interfaces/operation.h"
#include "transports/tcp/frame.h"
#include "unit/tcp/two_members.h"

namespace hora::tcp {
namespace {

Tag tag_of(std::uint64_t sequence, std::uint32_t step = 0, std::uint8_t channel = 0, std::uint64_t epoch = 1) {
  return {Epoch{epoch}, channel, sequence, step};
}

TEST_CASE("a_header_survives_its_encoding_and_nonsense_does_not") {
  const FrameHeader good{tag_of(7, 3, 1, 5), 2 * kFrameBytes, 100, 2 * kFrameBytes + 100};
  EncodedHeader encoded;
  encode(good, encoded);
  const auto decoded = decode(encoded);
  REQUIRE(decoded);
  CHECK(decoded->tag == good.tag);
  CHECK(decoded->offset == good.offset);
  CHECK(decoded->length == good.length);
  CHECK(decoded->total == good.total);
  const auto is_refused = [&](const std::function<void(FrameHeader&)>& spoil) {
    FrameHeader bad = good;
    spoil(bad);
    encode(bad, encoded);
    return !decode(encoded);
  };
  CHECK(is_refused([](FrameHeader& h) { h.tag.channel = kChannelCount + 1; }));
  CHECK(is_refused([](FrameHeader& h) { h.length = 101; }));
  CHECK(is_refused([](FrameHeader& h) { h.length = 99; }));
  CHECK(is_refused([](FrameHeader& h) { h.length = 0xffffffff; }));
  CHECK(is_refused([](FrameHeader& h) { h.offset = 1; }));
  CHECK(is_refused([](FrameHeader& h) { h.offset = ~std::uint64_t{kFrameBytes - 1}; }));
  CHECK(is_refused([](FrameHeader& h) { h.total = 0; }));
  CHECK(is_refused([](FrameHeader& h) { h.total = ~std::uint64_t{0}; }));
  CHECK(is_refused([](FrameHeader& h) { h.length = 0, h.total = h.offset; }));
  encode(good, encoded);
  encoded[0] ^= std::byte{1};
  CHECK_FALSE(decode(encoded));
}

TEST_CASE("messages_of_any_length_pass_in_pieces") {
  for (const Wire wire : kWires)
    for (const int sockets : {1, 2, 3}) {
      TwoMembers two(wire, sockets);
      std::uint64_t sequence = 0;
      for (const std::size_t bytes :
           std::set<std::size_t>{0, 1, 47, 48, 4000, 4048, 4096, 65536, 65537, kFrameBytes - 1, kFrameBytes,
                                 kFrameBytes + 1, 5 * kFrameBytes + 77}) {
        INFO("wire " << static_cast<int>(wire) << ", " << sockets << " sockets, " << bytes << " bytes");
        const Bytes data = pattern(bytes, static_cast<unsigned>(bytes));
        Bytes received(bytes);
        REQUIRE(two.pass(tag_of(++sequence), data, received));
        CHECK(received == data);
      }
    }
}

TEST_CASE("an_abandoned_message_leaves_the_streams_in_step") {
  for (const Wire wire : {Wire::narrow_tcp, Wire::local})
    for (const int sockets : {1, 2})
      for (const bool began_to_receive : {false, true})
        for (const bool new_epoch : {false, true}) {
          INFO("wire " << static_cast<int>(wire) << ", " << sockets << " sockets, " << began_to_receive << new_epoch);
          TwoMembers two(wire, sockets);
          Bytes lost(8 * kFrameBytes), received(3 * kFrameBytes + 5);
          {
            const Bytes doomed = pattern(lost.size(), 1);  // gone when the next message is sent
            REQUIRE_FALSE(two.send(tag_of(1, 1), doomed));
            if (began_to_receive) REQUIRE_FALSE(two.receive(tag_of(1, 1), lost));
            two.send(tag_of(1, 1), doomed);
          }
          const Tag next = new_epoch ? tag_of(1, 1, 0, 2) : tag_of(2, 1);
          if (new_epoch) {
            two.enter(0, 2);
            two.enter(1, 2);
          }
          const Bytes data = pattern(received.size(), 2);
          REQUIRE(two.pass(next, data, received));
          CHECK(received == data);
        }
}

TEST_CASE("what_members_say_on_entering_a_view_passes_an_abandoned_message") {
  for (const Wire wire : {Wire::narrow_tcp, Wire::local}) {
    TwoMembers two(wire, 1);
    const Bytes doomed = pattern(8 * kFrameBytes, 1);
    REQUIRE_FALSE(two.send(tag_of(1, 1), doomed));
    two.enter(0, 2);
    two.enter(1, 2);
    Bytes received(16);
    REQUIRE(two.pass(tag_of(0, 0, kChannelCount, 2), pattern(16, 3), received));
    CHECK(received == pattern(16, 3));
  }
}

TEST_CASE("a_full_channel_does_not_hold_the_other_up") {
  for (const Wire wire : {Wire::narrow_tcp, Wire::local}) {
    TwoMembers two(wire);
    const Bytes large = pattern(8 * kFrameBytes, 1);
    REQUIRE_FALSE(two.send(tag_of(1, 1, 0), large));  // nobody asks for it
    Bytes received(2 * kFrameBytes);
    REQUIRE(two.pass(tag_of(1, 1, 1), pattern(received.size(), 2), received));
    CHECK(received == pattern(received.size(), 2));
    Bytes late(large.size());
    REQUIRE(two.pass(tag_of(1, 1, 0), large, late));
    CHECK(late == large);
  }
}

TEST_CASE("small_messages_may_be_asked_for_in_any_order") {
  TwoMembers two(Wire::tcp, 1);
  for (std::uint32_t step = 0; step < 8; ++step) REQUIRE(two.send(tag_of(1, step), pattern(100 + step, step)));
  for (std::uint32_t step = 8; step-- > 0;) {
    Bytes received(100 + step);
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (!two.receive(tag_of(1, step), received)) REQUIRE(std::chrono::steady_clock::now() < deadline);
    CHECK(received == pattern(100 + step, step));
  }
}

// More than may be kept: the sender is held up, nothing is lost.
TEST_CASE("unasked_messages_wait_in_the_sockets") {
  TwoMembers two(Wire::narrow_tcp, 1);
  constexpr std::uint32_t kMessages = 200;
  constexpr std::size_t kBytes = 3000;
  std::uint32_t sent = 0;
  Bytes never(1);
  const auto push = [&] {
    while (sent < kMessages && two.send(tag_of(2, 1 + sent), pattern(kBytes, sent))) ++sent;
  };
  for (int i = 0; i < 100; ++i) {
    push();
    two.receive(tag_of(1, 0), never);
  }
  CHECK(sent < kMessages);
  for (std::uint32_t step = 0; step < kMessages; ++step) {
    Bytes received(kBytes);
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (!two.receive(tag_of(2, 1 + step), received)) {
      push();
      REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
    REQUIRE(received == pattern(kBytes, step));
  }
}

TEST_CASE("messages_of_a_later_view_are_kept_and_of_an_earlier_one_dropped") {
  TwoMembers two(Wire::tcp, 1);
  REQUIRE(two.send(tag_of(1, 0, 0, 1), pattern(20, 1)));
  two.enter(0, 2);
  REQUIRE(two.send(tag_of(1, 0, 0, 2), pattern(20, 2)));
  Bytes never(20);
  CHECK_FALSE(two.receive(tag_of(1, 5, 0, 1), never));
  two.enter(1, 2);
  Bytes received(20);
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (!two.receive(tag_of(1, 0, 0, 2), received)) REQUIRE(std::chrono::steady_clock::now() < deadline);
  CHECK(received == pattern(20, 2));
}

TEST_CASE("a_message_of_another_length_is_an_error") {
  TwoMembers two(Wire::tcp, 1);
  REQUIRE(two.send(tag_of(1, 1), pattern(20, 1)));
  Bytes other(21);
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  while (two.ends[1]->try_receive(Rank{0}, tag_of(1, 1), other).ok())
    REQUIRE(std::chrono::steady_clock::now() < deadline);
}

TEST_CASE("a_malformed_frame_closes_the_link_and_nothing_throws") {
  TwoMembers two(Wire::tcp, 1);
  const Bytes garbage = pattern(4096, 9);
  REQUIRE(::send(two.raw[0].get(), garbage.data(), garbage.size(), MSG_NOSIGNAL) > 0);
  Bytes received(8);
  // The other end closes: rank 0 can send no more, on this channel and on the other one.
  const auto deadline = std::chrono::steady_clock::now() + kDeadline;
  char byte = 0;
  while (::recv(two.raw[1].get(), &byte, 1, MSG_DONTWAIT) != 0 && errno != ECONNRESET) {
    CHECK_FALSE(two.receive(tag_of(1, 0), received));
    REQUIRE(std::chrono::steady_clock::now() < deadline);
  }
  CHECK_FALSE(two.receive(tag_of(1, 0), received));
  CHECK_FALSE(two.ends[1]->try_send(Rank{0}, tag_of(1, 0), received));
}

TEST_CASE("a_peer_that_shares_no_memory_is_silent_and_nothing_throws") {
  auto [ours, theirs] = connect_locally();
  auto [ours_too, theirs_too] = connect_locally();
  const Bytes garbage = pattern(100, 9);
  REQUIRE(::send(theirs.get(), garbage.data(), garbage.size(), MSG_NOSIGNAL) > 0);
  const auto links = SocketPairs::create({}).value();
  std::vector<UniqueFd> sockets;
  sockets.push_back(std::move(ours));
  sockets.push_back(std::move(ours_too));
  links->add(TwoMembers::member(1), Link::create(std::move(sockets)).value());
  View view;
  view.epoch = Epoch{1};
  view.members = {{TwoMembers::member(0), 1, ""}, {TwoMembers::member(1), 1, ""}};
  links->enter(view);
  Bytes received(8);
  for (int i = 0; i < 3; ++i) {
    CHECK_FALSE(links->try_receive(Rank{1}, tag_of(1, 0), received).value());
    CHECK_FALSE(links->try_send(Rank{1}, tag_of(1, 0), received));
  }
}

TEST_CASE("what_came_before_the_other_end_died_can_still_be_received") {
  for (const Wire wire : kWires) {
    TwoMembers two(wire, 1);
    REQUIRE(two.send(tag_of(1, 0), pattern(20, 1)));
    two.raw.clear();
    two.ends[0].reset();
    Bytes received(20);
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    while (!two.receive(tag_of(1, 0), received)) REQUIRE(std::chrono::steady_clock::now() < deadline);
    CHECK(received == pattern(20, 1));
    // The end itself is told, once. A stream through shared memory learns of it when it sleeps.
    const std::atomic<std::uint32_t> word{0};
    while (two.faults[1].empty()) {
      two.ends[1]->begin_sleep();
      CHECK_FALSE(two.receive(tag_of(1, 1), received));
      if (two.faults[1].empty()) two.ends[1]->sleep(word, 0, kDeadline);
      two.ends[1]->end_sleep();
      REQUIRE(std::chrono::steady_clock::now() < deadline);
    }
    for (int i = 0; i < 3; ++i) CHECK_FALSE(two.receive(tag_of(1, 1), received));
    CHECK(two.faults[1].size() == 1);
  }
}

}  // namespace
}  // namespace hora::tcp
