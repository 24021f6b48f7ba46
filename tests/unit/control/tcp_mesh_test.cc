// Links between hosts, and the data connections of all transports.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>

#include "circle.h"

namespace hora::control {
namespace {

using Catch::Contains;

// Both ends of the same index are one connection, of the family that the transport says.
void check_data(Circle& circle, std::size_t rank, std::size_t peer) {
  const auto link_of = [&](std::size_t from, std::size_t to) -> PeerLink& {
    for (PeerLink& link : circle.links[from])
      if (link.id == circle.id(to)) return link;
    FAIL("no link");
    return circle.links[from].front();
  };
  PeerLink &mine = link_of(rank, peer), &theirs = link_of(peer, rank);
  const bool same_host = circle.view.members[rank].host == circle.view.members[peer].host;
  REQUIRE(mine.data.size() == data_sockets_of(circle.view.config));
  REQUIRE(theirs.data.size() == mine.data.size());
  for (std::size_t index = 0; index < mine.data.size(); ++index) {
    const UniqueFd& socket = mine.data[index];
    CHECK(is_local(socket) == (same_host && circle.shape.transport == Transport::mixed));
    CHECK((::fcntl(socket.get(), F_GETFL) & O_NONBLOCK) != 0);
    if (!is_local(socket)) {
      int on = 0;
      socklen_t bytes = sizeof on;
      REQUIRE(::getsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, &bytes) == 0);
      CHECK(on != 0);
    }
    const auto sent = static_cast<char>(16 * rank + index);
    REQUIRE(::send(socket.get(), &sent, 1, MSG_NOSIGNAL) == 1);
    char got = 0;
    REQUIRE(readable_within_10s(theirs.data[index].get()));
    REQUIRE(::recv(theirs.data[index].get(), &got, 1, 0) == 1);
    CHECK(got == sent);
  }
}

TEST_CASE("members of any hosts are connected by what their transport asks for") {
  Shape shape;
  SECTION("three hosts without data connections") {
    shape = {{1, 2, 3}, Transport::shm, 2};
  }
  SECTION("three hosts") {
    shape = {{1, 2, 3}, Transport::mixed, 2};
  }
  SECTION("two members share a host") {
    shape = {{1, 1, 2}, Transport::mixed, 1};
  }
  SECTION("tcp inside a host") {
    shape = {{1, 1, 1}, Transport::tcp, 3};
  }
  SECTION("IPv6") {
    shape = {{1, 2, 2}, Transport::tcp, 1, "::1"};
  }
  Circle circle(shape);
  const UniqueFd segment(::memfd_create("segment", MFD_CLOEXEC));
  std::vector<Status> outcomes(3);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < 3; ++rank)
    threads.emplace_back([&, rank] { outcomes[rank] = circle.connect(rank, 20s, segment.get()); });
  for (auto& thread : threads) thread.join();
  for (const Status& status : outcomes) REQUIRE(status.to_string() == "ok");

  for (std::size_t rank = 0; rank < 3; ++rank) {
    CHECK(circle.meshes[rank]->address().starts_with("tcp:"));
    REQUIRE(circle.links[rank].size() == 2);
    for (const PeerLink& link : circle.links[rank]) {
      const auto peer = static_cast<std::size_t>(circle.view.rank_of(link.id)->value);
      const bool same_host = circle.view.members[rank].host == circle.view.members[peer].host;
      CHECK(static_cast<bool>(link.segment) == same_host);
      CHECK(static_cast<bool>(link.pidfd) == same_host);
      check_data(circle, rank, peer);
      REQUIRE(circle.meshes[rank]->send(link.id, text("hello")).ok());
    }
  }
  for (std::size_t rank = 0; rank < 3; ++rank) {
    Recorder recorder;
    CHECK(circle.run_until(rank, recorder, [&] { return recorder.messages.size() == 2; }));
    CHECK(recorder.downs.empty());
  }
}

TEST_CASE("the end of a link between hosts is seen") {
  Circle circle(Shape{{1, 2}, Transport::mixed, 2});
  circle.connect_all();
  circle.meshes[0].reset();
  Recorder recorder;
  CHECK(circle.run_until(1, recorder, [&] { return recorder.downs == std::vector{circle.id(0)}; }));
}

TEST_CASE("a founder of another host that is gone is found at once") {
  Circle circle(Shape{{1, 2}, Transport::mixed, 2});
  circle.meshes[0].reset();
  const Status status = circle.connect(1, 20s);
  CHECK(status.code() == StatusCode::peer_failed);
  CHECK_THAT(std::string(status.message()), Contains("rank 0") && Contains("refused"));
}

TEST_CASE("a member takes the first free port of its range") {
  const SystemClock clock;
  const Log log{LogLevel::error, "test"};
  const auto listen = [&](std::uint16_t first, std::uint16_t last) {
    return Mesh::listen({MemberId{entropy64()}, "job", "secret", 1}, {"127.0.0.1", first, last}, clock, log);
  };
  const auto port_of = [](const Mesh& mesh) {
    return static_cast<std::uint16_t>(std::stoi(mesh.address().substr(mesh.address().rfind(':') + 1)));
  };
  auto any = listen(0, 0);
  REQUIRE(any.ok());
  const std::uint16_t taken = port_of(**any);
  const auto none = listen(taken, taken);
  CHECK(none.status().code() == StatusCode::resource);
  CHECK_THAT(std::string(none.status().message()), Contains("HORA_PORT_RANGE") && Contains(std::to_string(taken)));
  const auto last = static_cast<std::uint16_t>(std::min(65535, taken + 200));
  const auto next = listen(taken, last);
  REQUIRE(next.ok());
  CHECK(port_of(*next.value()) > taken);
  CHECK(port_of(*next.value()) <= last);
}

}  // namespace
}  // namespace hora::control
