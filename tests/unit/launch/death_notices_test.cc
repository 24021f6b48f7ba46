#include "launch/death_notices.h"

#include <catch2/catch.hpp>
#include <memory>

#include "base/entropy.h"
#include "elastic/store/obituary.h"
#include "elastic/store/store_server.h"
#include "interfaces/system_clock.h"

namespace hora::launch {
namespace {

TEST_CASE("deaths of members are told one after the other") {
  const SystemClock clock;
  const Log log(LogLevel::error, "test");
  auto server = store::StoreServer::start({"unix:@hora-test-" + entropy_hex(8), "job", "secret"}, clock, log);
  REQUIRE(server.ok());
  store::StoreClient member({.address = (*server)->address(), .job = "job", .secret = "secret"}, clock);
  REQUIRE(member.set(store::member_key("job", "first"), store::encode_member(MemberId{0xa1})).ok());
  REQUIRE(member.set(store::member_key("job", "second"), store::encode_member(MemberId{0xa2})).ok());
  REQUIRE(member.set(store::member_key("job", "odd"), "no number").ok());

  DeathNotices notices((*server)->address(), "job", "secret", clock);
  CHECK(notices.tell("second", "was killed by SIGKILL").ok());
  CHECK(notices.tell("nobody has this one", "exited with status 1").ok());
  CHECK_FALSE(notices.tell("odd", "exited with status 1").ok());
  CHECK(notices.tell("first", "exited with status 3").ok());

  CHECK(member.get(store::death_key("job", 1)).value() == "00000000000000a2 was killed by SIGKILL");
  CHECK(member.get(store::death_key("job", 2)).value() == "00000000000000a1 exited with status 3");
  CHECK(member.get(store::death_key("job", 3)).value() == std::nullopt);
}

}  // namespace
}  // namespace hora::launch
