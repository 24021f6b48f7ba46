#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "circle.h"

namespace hora::control {
namespace {

using Catch::Contains;

TEST_CASE("mesh connects every pair and passes segments and processes") {
  Circle circle(3);
  std::vector<UniqueFd> segments;
  for (int rank = 0; rank < 3; ++rank) segments.emplace_back(::memfd_create("segment", MFD_CLOEXEC));
  std::vector<std::thread> threads;
  std::vector<Status> outcomes(3);
  for (std::size_t rank = 0; rank < 3; ++rank)
    threads.emplace_back([&, rank] { outcomes[rank] = circle.connect(rank, 20s, segments[rank].get()); });
  for (auto& thread : threads) thread.join();
  for (const Status& status : outcomes) REQUIRE(status.to_string() == "ok");

  for (std::size_t rank = 0; rank < 3; ++rank) {
    REQUIRE(circle.links[rank].size() == 2);
    for (const PeerLink& link : circle.links[rank]) {
      const auto peer = static_cast<std::size_t>(circle.view.rank_of(link.id)->value);
      CHECK(peer != rank);
      CHECK(link.pid == ::getpid());
      CHECK(link.pidfd);
      struct stat own {
      }, passed{};
      REQUIRE(::fstat(segments[peer].get(), &own) == 0);
      REQUIRE(::fstat(link.segment.get(), &passed) == 0);
      CHECK(own.st_ino == passed.st_ino);
      CHECK((::fcntl(link.segment.get(), F_GETFD) & FD_CLOEXEC) != 0);
    }
  }
}

TEST_CASE("mesh delivers messages in order") {
  Circle circle(2);
  circle.connect_all();
  Recorder recorder;
  for (int i = 0; i < 1000; ++i) REQUIRE(circle.meshes[1]->send(circle.id(0), text(std::to_string(i))).ok());
  // What did not fit into the socket leaves in the sender's loop.
  REQUIRE(circle.run_until(0, recorder, [&] {
    circle.meshes[1]->run_once(circle.clock.now(), recorder);
    return recorder.messages.size() == 1000;
  }));
  for (std::size_t i = 0; i < 1000; ++i) {
    CHECK(recorder.messages[i].first == circle.id(1));
    CHECK(recorder.messages[i].second == text(std::to_string(i)));
  }
}

TEST_CASE("mesh carries frames far larger than a socket buffer") {
  Circle circle(2);
  circle.connect_all();
  wire::Bytes big(kFrameBytesMax);
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<std::byte>(i * 2654435761u >> 24);
  Recorder receiver, sender;
  std::thread reader([&] { CHECK(circle.run_until(0, receiver, [&] { return receiver.messages.size() == 2; })); });
  CHECK(circle.meshes[1]->send(circle.id(0), std::span(big).first(big.size() - 64)).ok());
  // The rest of the first leaves in the sender's loop, until the second fits.
  std::atomic<bool> received{false};
  std::thread watcher([&] {
    reader.join();
    received = true;
    circle.meshes[1]->wake();
  });
  CHECK(circle.meshes[1]->send(circle.id(0), text("after")).ok());
  CHECK(circle.run_until(1, sender, [&] { return received.load(); }));
  watcher.join();
  REQUIRE(receiver.messages.size() == 2);
  CHECK(std::equal(receiver.messages[0].second.begin(), receiver.messages[0].second.end(), big.begin()));
  CHECK(receiver.messages[1].second == text("after"));
}

TEST_CASE("mesh writes what is queued after the last round of its loop") {
  Circle circle(2);
  circle.connect_all();
  const wire::Bytes block(1 << 20);
  for (int i = 0; i < 8; ++i) REQUIRE(circle.meshes[1]->send(circle.id(0), block).ok());
  circle.meshes[1]->drain(circle.clock.now());  // nobody reads: it gives up in time
  Recorder recorder;
  std::thread reader([&] { CHECK(circle.run_until(0, recorder, [&] { return recorder.messages.size() == 8; })); });
  circle.meshes[1]->drain(circle.clock.now() + 10s);
  circle.meshes[1].reset();
  reader.join();
  CHECK(recorder.messages.size() == 8);
}

TEST_CASE("mesh closes a link whose queue is full, and says so once") {
  Circle circle(2);
  circle.connect_all();
  const wire::Bytes block(1 << 20);
  Status status;
  for (int i = 0; i < 40 && status.ok(); ++i) status = circle.meshes[1]->send(circle.id(0), block);
  CHECK(status.code() == StatusCode::resource);
  CHECK(circle.meshes[1]->send(circle.id(0), block).ok());  // swallowed
  Recorder recorder;
  REQUIRE(circle.run_until(1, recorder, [&] { return !recorder.downs.empty(); }));
  circle.meshes[1]->run_once(circle.clock.now(), recorder);
  CHECK(recorder.downs == std::vector{circle.id(0)});
}

TEST_CASE("mesh reports a link down once, after its last message") {
  Circle circle(3);
  circle.connect_all();
  REQUIRE(circle.meshes[2]->send(circle.id(0), text("goodbye")).ok());
  circle.meshes[2].reset();
  Recorder recorder;
  REQUIRE(circle.run_until(0, recorder, [&] { return !recorder.downs.empty(); }));
  REQUIRE(recorder.messages.size() == 1);
  circle.meshes[0]->run_once(circle.clock.now(), recorder);
  CHECK(recorder.downs == std::vector{circle.id(2)});
  CHECK(circle.meshes[0]->send(circle.id(2), text("nobody")).ok());
  REQUIRE(circle.meshes[0]->send(circle.id(1), text("still here")).ok());
}

TEST_CASE("mesh closed by its owner ends links that a forked child still holds") {
  Circle circle(2);
  circle.connect_all();
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(gate[1]);
    char byte;
    [[maybe_unused]] const auto got = ::read(gate[0], &byte, 1);
    ::_exit(0);
  }
  ::close(gate[0]);
  circle.meshes[1].reset();
  Recorder recorder;
  CHECK(circle.run_until(0, recorder, [&] { return !recorder.downs.empty(); }));
  ::close(gate[1]);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("a mesh destroyed in a forked child leaves its owner's links alone") {
  Circle circle(2);
  circle.connect_all();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    circle.meshes[1].reset();
    ::_exit(0);
  }
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  Recorder recorder;
  REQUIRE(circle.meshes[1]->send(circle.id(0), text("alive")).ok());
  REQUIRE(circle.run_until(0, recorder, [&] { return recorder.messages.size() == 1; }));
  CHECK(recorder.downs.empty());
}

TEST_CASE("mesh names who did not connect") {
  Circle circle(4);
  const Status status = circle.connect(0, 50ms);
  CHECK(status.code() == StatusCode::timed_out);
  CHECK_THAT(std::string(status.message()), Contains("ranks 1, 2, 3 did not connect within 50 ms"));
}

TEST_CASE("mesh fails at once when a rank that should listen is gone") {
  Circle circle(2);
  circle.meshes[0].reset();
  const Status status = circle.connect(1, 20s);
  CHECK_THAT(std::string(status.message()), Contains("rank 0"));
}

TEST_CASE("mesh names the member of another host that listens for its own host only") {
  Circle circle(Shape{{1, 2}, Transport::mixed, 1, ""});
  CHECK(circle.meshes[0]->address().empty());
  const Status status = circle.connect(1, 20s);
  CHECK(status.code() == StatusCode::unsupported);
  CHECK_THAT(std::string(status.message()), Contains("rank 0") && Contains("HORA_STORE"));
}

TEST_CASE("mesh refuses strangers and disturbs nobody") {
  Circle circle(2);
  Status outcome;
  std::thread rank0([&] { outcome = circle.connect(0, 20s); });

  HandshakeIdentity identity{"control", "job", circle.id(1)};
  std::string secret = "secret", expected;
  bool garbage = false, silent = false;
  SECTION("wrong secret") {
    secret = "guess", expected = "secret";
  }
  SECTION("wrong version") {
    identity.version = 9, expected = "protocol version 2 met protocol version 9";
  }
  SECTION("wrong job") {
    identity.job = "other", expected = "job \"job\" met job \"other\"";
  }
  SECTION("a rank that is dialed and never dials") {
    identity.member = circle.id(0), expected = "refused";
  }
  SECTION("garbage") {
    garbage = true;
  }
  SECTION("half open") {
    silent = true;
  }

  UniqueFd socket = dial_now(local_address_of(circle.id(0)));
  if (garbage) {
    const std::string noise(5000, '\xff');
    REQUIRE(::send(socket.get(), noise.data(), noise.size(), MSG_NOSIGNAL) == 5000);
    CHECK(closed_within_10s(socket.get()));
  } else if (!silent) {
    HandshakingSocket stranger(std::move(socket), Handshake::Role::dialer, identity, secret);
    const Status status = finish(stranger);
    if (!expected.empty()) CHECK_THAT(std::string(status.message()), Contains(expected));
    CHECK(closed_within_10s(stranger.fd()));
  }
  CHECK(circle.connect(1, 20s).to_string() == "ok");
  rank0.join();
  CHECK(outcome.to_string() == "ok");
}

TEST_CASE("mesh refuses a second connection of a member") {
  Circle circle(3);
  Status outcome;
  std::thread rank0([&] { outcome = circle.connect(0, 20s); });
  const HandshakeIdentity identity{"control", "job", circle.id(1)};
  HandshakingSocket first(dial_now(local_address_of(circle.id(0))), Handshake::Role::dialer, identity, "secret");
  REQUIRE(finish(first).ok());
  HandshakingSocket second(dial_now(local_address_of(circle.id(0))), Handshake::Role::dialer, identity, "secret");
  (void)finish(second);
  CHECK(closed_within_10s(second.fd()));
  HandshakingSocket last(dial_now(local_address_of(circle.id(0))), Handshake::Role::dialer,
                         {"control", "job", circle.id(2)}, "secret");
  CHECK(finish(last).ok());
  rank0.join();
  CHECK(outcome.to_string() == "ok");
}

TEST_CASE("mesh drops a dialer that never finishes its handshake") {
  Circle circle(2);
  std::thread rank0([&] { CHECK(circle.connect(0, 20s).ok()); });
  const UniqueFd silent = dial_now(local_address_of(circle.id(0)));
  // Its answer to garbage shows that the silent one, who came first, has been accepted.
  const UniqueFd noisy = dial_now(local_address_of(circle.id(0)));
  REQUIRE(::send(noisy.get(), "\xff\xff\xff\xff", 4, MSG_NOSIGNAL) == 4);
  REQUIRE(closed_within_10s(noisy.get()));
  circle.clock.shift(6s);
  const UniqueFd poke = dial_now(local_address_of(circle.id(0)));
  CHECK(closed_within_10s(silent.get()));
  CHECK(circle.connect(1, 20s).ok());
  rank0.join();
}

TEST_CASE("mesh loop watches other descriptors and wakes up") {
  Circle circle(1);
  Recorder recorder;
  recorder.mesh = circle.meshes[0].get();
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const UniqueFd in(ends[0]), out(ends[1]);
  REQUIRE(circle.meshes[0]->watch(in.get()).ok());
  circle.meshes[0]->run_once(circle.clock.now(), recorder);
  CHECK(recorder.readable.empty());
  REQUIRE(::write(out.get(), "x", 1) == 1);
  REQUIRE(circle.run_until(0, recorder, [&] { return !recorder.readable.empty(); }));
  circle.meshes[0]->run_once(circle.clock.now(), recorder);
  CHECK(recorder.readable == std::vector{in.get()});

  std::thread waker([&] { circle.meshes[0]->wake(); });
  circle.meshes[0]->run_once(std::nullopt, recorder);
  waker.join();
}

}  // namespace
}  // namespace hora::control
