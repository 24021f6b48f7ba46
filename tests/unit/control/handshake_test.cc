#include "base/handshake.h"

#include <catch2/catch.hpp>
#include <string>

namespace hora {
namespace {

using Catch::Contains;
using Role = Handshake::Role;

Handshake::Nonce nonce(int seed) {
  Handshake::Nonce value{};
  value[0] = static_cast<std::byte>(seed);
  return value;
}

HandshakeIdentity identity(std::uint64_t member) {
  return {"control", "job", MemberId{member}};
}

// Carries messages between the two until one of them refuses or both are done.
Status shake(Handshake& dialer, Handshake& listener) {
  wire::Bytes frame = dialer.hello();
  for (int turn = 0; turn < 6; ++turn) {
    Handshake& reader = turn % 2 == 0 ? listener : dialer;
    auto reply = reader.on_frame(frame);
    if (!reply.ok()) return reply.status();
    if (reply->done && turn % 2 == 1) return {StatusCode::internal, "the dialer did not wait to be welcome"};
    if (reply->done) {
      const auto last = dialer.on_frame(Handshake::welcome());
      return last.ok() && last.value().done ? Status() : Status(StatusCode::internal, "welcome was not the end");
    }
    frame = std::move(reply->frame);
  }
  return {StatusCode::internal, "it did not end"};
}

TEST_CASE("handshake tells each side who the other is") {
  Handshake dialer(Role::dialer, identity(7), "secret", nonce(1));
  Handshake listener(Role::listener, identity(8), "secret", nonce(2));
  REQUIRE(shake(dialer, listener).ok());
  CHECK(dialer.peer().member == MemberId{8});
  CHECK(listener.peer().member == MemberId{7});
}

TEST_CASE("handshake refuses what differs and names it") {
  HandshakeIdentity other = identity(7);
  std::string secret = "secret", expected, also;
  SECTION("secret") {
    secret = "another", expected = "HORA_SECRET", also = "secret";
  }
  SECTION("version") {
    other.version = 3, expected = "version 2", also = "version 3";
  }
  SECTION("job") {
    other.job = "theirs", expected = "\"job\"", also = "\"theirs\"";
  }
  SECTION("member") {
    other.expected = MemberId{9}, expected = "0000000000000008", also = "0000000000000009";
  }
  SECTION("purpose") {
    other.purpose = "store", expected = "store connection", also = "control socket";
  }
  Handshake dialer(Role::dialer, other, secret, nonce(1));
  Handshake listener(Role::listener, identity(8), "secret", nonce(2));
  const Status status = shake(dialer, listener);
  CHECK(status.code() == StatusCode::mismatch);
  CHECK_THAT(std::string(status.message()), Contains(expected) && Contains(also));

  auto told = dialer.on_frame(Handshake::refusal(status));
  REQUIRE_FALSE(told.ok());
  CHECK_THAT(std::string(told.status().message()), Contains(expected));
}

TEST_CASE("a listener for control takes data and state, and says which connection it took") {
  HandshakeIdentity data = identity(7);
  data.purpose = "data";
  data.link = 5;
  data.index = 3;
  Handshake dialer(Role::dialer, data, "secret", nonce(1));
  Handshake listener(Role::listener, identity(8), "secret", nonce(2));
  REQUIRE(shake(dialer, listener).ok());
  CHECK(listener.peer().purpose == "data");
  CHECK(listener.peer().link == 5);
  CHECK(dialer.peer().index == 3);
  Handshake strict(Role::listener, {"store", "job", MemberId{8}}, "secret", nonce(2));
  CHECK_FALSE(strict.on_frame(dialer.hello()).ok());
}

TEST_CASE("a listener may refuse until it has welcomed the dialer") {
  Handshake dialer(Role::dialer, identity(7), "secret", nonce(1));
  Handshake listener(Role::listener, identity(8), "secret", nonce(2));
  auto hello = listener.on_frame(dialer.hello());
  auto proof = listener.on_frame(dialer.on_frame(hello->frame)->frame);
  auto accept = dialer.on_frame(proof->frame);
  REQUIRE(listener.on_frame(accept->frame)->done);
  const auto told = dialer.on_frame(Handshake::refusal({StatusCode::mismatch, "no room"}));
  CHECK_THAT(std::string(told.status().message()), Contains("no room"));
}

TEST_CASE("handshake does not accept its own proof reflected") {
  Handshake dialer(Role::dialer, identity(7), "secret", nonce(1));
  auto proof = dialer.on_frame(dialer.hello());  // the stranger echoes everything
  REQUIRE(proof.ok());
  CHECK_FALSE(dialer.on_frame(proof->frame).ok());
}

TEST_CASE("handshake does not accept a proof recorded earlier") {
  Handshake dialer(Role::dialer, identity(7), "secret", nonce(1));
  Handshake listener(Role::listener, identity(8), "secret", nonce(2));
  auto hello = listener.on_frame(dialer.hello());
  auto proof = dialer.on_frame(hello->frame);
  Handshake later(Role::listener, identity(8), "secret", nonce(3));
  REQUIRE(later.on_frame(dialer.hello()).ok());
  CHECK_FALSE(later.on_frame(proof->frame).ok());
}

TEST_CASE("handshake refuses garbage and steps out of order") {
  Handshake listener(Role::listener, identity(8), "secret", nonce(2));
  const std::string garbage = "GET / HTTP/1.1";
  CHECK_FALSE(listener.on_frame(std::as_bytes(std::span(garbage))).ok());
  CHECK_FALSE(listener.on_frame({}).ok());
  const wire::Bytes accept{std::byte{2}};
  CHECK_FALSE(listener.on_frame(accept).ok());
  const wire::Bytes hello = Handshake(Role::dialer, identity(7), "secret", nonce(1)).hello();
  for (std::size_t bytes = 0; bytes < hello.size(); ++bytes) {
    Handshake fresh(Role::listener, identity(8), "secret", nonce(2));
    CHECK_FALSE(fresh.on_frame(std::span(hello).first(bytes)).ok());
  }
}

}  // namespace
}  // namespace hora
