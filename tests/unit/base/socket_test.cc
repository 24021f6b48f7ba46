// Where sockets listen and whom they meet; what a reader of frames keeps.
#include <fmt/format.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <vector>

#include "base/frame_socket.h"
#include "base/handshaking_socket.h"
#include "base/socket_address.h"

namespace hora {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = port;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// As the kernel makes one when it gives a dialer the very port that it dials, where nobody listens.
UniqueFd socket_that_met_itself() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in own = loopback(0);
  socklen_t bytes = sizeof own;
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) == 0);
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &bytes) == 0);
  REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&own), sizeof own) == 0);
  return fd;
}

sockaddr_storage bound(const UniqueFd& fd) {
  sockaddr_storage own{};
  socklen_t bytes = sizeof own;
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &bytes) == 0);
  return own;
}

bool is_anywhere(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6)
    return IN6_IS_ADDR_UNSPECIFIED(&reinterpret_cast<const sockaddr_in6*>(&address)->sin6_addr);
  return reinterpret_cast<const sockaddr_in*>(&address)->sin_addr.s_addr == htonl(INADDR_ANY);
}

TEST_CASE("a socket that met itself found nobody") {
  HandshakingSocket dialer(socket_that_met_itself(), Handshake::Role::dialer, {"store", "job", MemberId()}, "secret");
  CHECK(dialer.advance().code() == StatusCode::peer_failed);
  CHECK(dialer.nobody_listens());
}

TEST_CASE("a host by name listens everywhere, by number or as localhost there alone") {
  CHECK(listen_at("tcp:no-such-host.invalid:0").status().code() == StatusCode::invalid_argument);
  char name[256] = "";
  REQUIRE(::gethostname(name, sizeof name - 1) == 0);
  const auto named = listen_at(fmt::format("tcp:{}:0", name));
  if (named.status().code() == StatusCode::invalid_argument) {
    std::puts("SKIPPED: the name of this host means nothing to it");
    return;
  }
  REQUIRE(named.ok());
  CHECK(is_anywhere(bound(named.value())));
  const auto address = address_of(named.value(), "tcp:127.0.0.1:0");
  REQUIRE(address.ok());
  const auto dialed = dial(address.value());
  REQUIRE(dialed.ok());
  pollfd connected{dialed.value().get(), POLLOUT, 0};
  REQUIRE(::poll(&connected, 1, 10'000) == 1);
  CHECK(connection_error(dialed.value()) == 0);
  for (const char* here : {"tcp:127.0.0.1:0", "tcp:localhost:0"}) {
    const auto listener = listen_at(here);
    REQUIRE(listener.ok());
    CHECK_FALSE(is_anywhere(bound(listener.value())));
  }
}

// Of this process, in small blocks and in large ones.
std::size_t allocated_bytes() {
  const auto all = ::mallinfo2();
  return all.uordblks + all.hblkhd;
}

TEST_CASE("a reader of frames keeps little, and reads what is long") {
  constexpr std::size_t kReaders = 64;
  std::vector<UniqueFd> sockets;
  std::vector<FrameReader> readers(kReaders);
  const std::size_t before = allocated_bytes();
  for (FrameReader& reader : readers) {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    sockets.emplace_back(ends[0]);
    sockets.emplace_back(ends[1]);
    FrameWriter writer;
    const auto write = [&](std::size_t bytes) {
      REQUIRE(writer.send(ends[0], wire::Bytes(bytes, std::byte{7})).ok());
      for (;;) {
        auto frame = reader.next();
        REQUIRE(frame.ok());
        if (frame.value()) {
          CHECK(std::equal((*frame)->begin(), (*frame)->end(), wire::Bytes(bytes, std::byte{7}).begin()));
          CHECK((*frame)->size() == bytes);
          return;
        }
        REQUIRE(reader.fill(ends[1]).ok());
        REQUIRE(writer.flush(ends[0]).ok());
      }
    };
    write(100);
    write(3 << 20);
    write(0);
    CHECK(reader.fill(ends[1]).code() == StatusCode::try_again);
  }
  CHECK(allocated_bytes() - before < kReaders * (std::size_t{16} << 10));
}

}  // namespace
}  // namespace hora
