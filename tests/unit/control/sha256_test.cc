#include "base/sha256.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>
#include <string>

namespace hora {
namespace {

std::string hex(const Digest& digest) {
  std::string text;
  for (const std::byte b : digest) text += fmt::format("{:02x}", std::to_integer<int>(b));
  return text;
}

std::span<const std::byte> bytes(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// FIPS 180-4 examples.
TEST_CASE("sha256 gives the published digests") {
  CHECK(hex(sha256({})) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex(sha256(bytes("abc"))) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex(sha256(bytes("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))) ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex(sha256(bytes(std::string(1'000'000, 'a')))) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256 does not depend on how its input is cut") {
  const std::string text(300, 'x');
  const Digest whole = sha256(bytes(text));
  for (std::size_t cut = 0; cut <= text.size(); ++cut) {
    Sha256 hash;
    hash.update(bytes(text).first(cut));
    hash.update(bytes(text).subspan(cut));
    REQUIRE(hash.finish() == whole);
  }
}

// RFC 4231, test cases 2 and 6.
TEST_CASE("hmac_sha256 gives the published codes") {
  CHECK(hex(hmac_sha256("Jefe", bytes("what do ya want for nothing?"))) ==
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK(hex(hmac_sha256(std::string(131, '\xaa'), bytes("Test Using Larger Than Block-Size Key - Hash Key First"))) ==
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST_CASE("equal_in_constant_time compares content and length") {
  CHECK(equal_in_constant_time(bytes("same"), bytes("same")));
  CHECK_FALSE(equal_in_constant_time(bytes("same"), bytes("sama")));
  CHECK_FALSE(equal_in_constant_time(bytes("same"), bytes("sam")));
}

}  // namespace
}  // namespace hora
