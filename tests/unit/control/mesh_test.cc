#include "transports/control/mesh.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <thread>

#include "base/socket_address.h"
#include "interfaces/system_clock.h"

namespace hora::control {
namespace {

using namespace std::chrono_literals;
using Catch::Contains;

// Time that a test can move forward.
class ShiftedClock : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return SystemClock().now() + Duration(shift_.load()); }
  void shift(Duration by) { shift_ += by.count(); }

 private:
  std::atomic<Duration::rep> shift_{0};
};

wire::Bytes text(const std::string& value) {
  const auto raw = std::as_bytes(std::span(value));
  return {raw.begin(), raw.end()};
}

struct Recorder : LoopHandler {
  void on_message(MemberId from, std::span<const std::byte> message) override {
    messages.emplace_back(from, wire::Bytes(message.begin(), message.end()));
  }
  void on_link_down(MemberId peer) override { downs.push_back(peer); }
  void on_readable(int fd) override {
    readable.push_back(fd);
    if (mesh != nullptr) mesh->unwatch(fd);
  }
  Mesh* mesh = nullptr;
  std::vector<std::pair<MemberId, wire::Bytes>> messages;
  std::vector<MemberId> downs;
  std::vector<int> readable;
};

// N meshes of one job in this process, not connected yet.
struct Circle {
  explicit Circle(int size) {
    static std::atomic<std::uint64_t> next_id{1};
    const std::uint64_t run = static_cast<std::uint64_t>(::getpid()) << 32;
    view.epoch = Epoch{1};
    for (int rank = 0; rank < size; ++rank) {
      const MemberId id{run | next_id++};
      auto mesh = Mesh::listen({id, "job", "secret"}, clock, log);
      REQUIRE(mesh.ok());
      view.members.push_back({id, 1, (*mesh)->address()});
      meshes.push_back(std::move(*mesh));
    }
    links.resize(meshes.size());
  }

  Status connect(std::size_t rank, Duration patience, int segment = -1) {
    auto made = meshes[rank]->connect_all(view, Rank{static_cast<std::int32_t>(rank)}, segment, clock.now() + patience);
    if (!made.ok()) return made.status();
    links[rank] = std::move(*made);
    return {};
  }

  void connect_all() {
    std::vector<Status> outcomes(meshes.size());
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < meshes.size(); ++rank)
      threads.emplace_back([&, rank] { outcomes[rank] = connect(rank, 20s); });
    for (auto& thread : threads) thread.join();
    for (const Status& status : outcomes) REQUIRE(status.to_string() == "ok");
  }

  // Runs the loop of `rank` until `condition`, at most 10 s.
  bool run_until(std::size_t rank, Recorder& recorder, const std::function<bool()>& condition) {
    const TimePoint deadline = clock.now() + 10s;
    while (!condition()) {
      if (clock.now() >= deadline) return false;
      meshes[rank]->run_once(deadline, recorder);
    }
    return true;
  }

  [[nodiscard]] MemberId id(std::size_t rank) const { return view.members[rank].id; }

  ShiftedClock clock;
  Log log{LogLevel::error, "test"};
  View view;
  std::vector<std::unique_ptr<Mesh>> meshes;
  std::vector<std::vector<PeerLink>> links;
};

UniqueFd dial_now(const std::string& address) {
  auto socket = dial(address);
  REQUIRE(socket.ok());
  return std::move(*socket);
}

bool readable_within_10s(int fd) {
  pollfd polled{fd, POLLIN, 0};
  return ::poll(&polled, 1, 10'000) == 1;
}

Status finish(HandshakingSocket& socket) {
  for (;;) {
    Status status = socket.advance();
    if (status.code() != StatusCode::try_again) return status;
    if (!readable_within_10s(socket.fd())) return {StatusCode::timed_out, "the other end is silent"};
  }
}

bool closed_within_10s(int fd) {
  char byte;
  while (readable_within_10s(fd)) {
    const ssize_t got = ::recv(fd, &byte, 1, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
  }
  return false;
}

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

TEST_CASE("mesh refuses members that cannot share memory") {
  Circle circle(2);
  circle.view.members[1].host = 2;
  const Status status = circle.connect(0, 20s);
  CHECK(status.code() == StatusCode::unsupported);
}

TEST_CASE("mesh refuses strangers and disturbs nobody") {
  Circle circle(2);
  Status outcome;
  std::thread rank0([&] { outcome = circle.connect(0, 20s); });

  HandshakeIdentity identity{"control", "job", circle.id(1), Epoch{1}};
  std::string secret = "secret", expected;
  bool garbage = false, silent = false;
  SECTION("wrong secret") {
    secret = "guess", expected = "secret";
  }
  SECTION("wrong version") {
    identity.version = 9, expected = "protocol version 1 met protocol version 9";
  }
  SECTION("wrong job") {
    identity.job = "other", expected = "job \"job\" met job \"other\"";
  }
  SECTION("not a member") {
    identity.member = MemberId{3}, expected = "";
  }
  SECTION("garbage") {
    garbage = true;
  }
  SECTION("half open") {
    silent = true;
  }

  UniqueFd socket = dial_now(circle.view.members[0].address);
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
  const HandshakeIdentity identity{"control", "job", circle.id(1), Epoch{1}};
  HandshakingSocket first(dial_now(circle.view.members[0].address), Handshake::Role::dialer, identity, "secret");
  REQUIRE(finish(first).ok());
  HandshakingSocket second(dial_now(circle.view.members[0].address), Handshake::Role::dialer, identity, "secret");
  (void)finish(second);
  CHECK(closed_within_10s(second.fd()));
  HandshakingSocket last(dial_now(circle.view.members[0].address), Handshake::Role::dialer,
                         {"control", "job", circle.id(2), Epoch{1}}, "secret");
  CHECK(finish(last).ok());
  rank0.join();
  CHECK(outcome.to_string() == "ok");
}

TEST_CASE("mesh drops a dialer that never finishes its handshake") {
  Circle circle(2);
  std::thread rank0([&] { CHECK(circle.connect(0, 20s).ok()); });
  const UniqueFd silent = dial_now(circle.view.members[0].address);
  // Its answer to garbage shows that the silent one, who came first, has been accepted.
  const UniqueFd noisy = dial_now(circle.view.members[0].address);
  REQUIRE(::send(noisy.get(), "\xff\xff\xff\xff", 4, MSG_NOSIGNAL) == 4);
  REQUIRE(closed_within_10s(noisy.get()));
  circle.clock.shift(6s);
  const UniqueFd poke = dial_now(circle.view.members[0].address);
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
