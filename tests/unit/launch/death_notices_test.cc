#include "launch/death_notices.h"

#include <catch2/catch.hpp>
#include <memory>

#include "base/entropy.h"
#include "elastic/store/obituary.h"
#include "elastic/store/store_client.h"
#include "elastic/store/store_server.h"
#include "interfaces/system_clock.h"

namespace hora::launch {
namespace {

// A connection on which one answer to set() is lost: it was carried out, and nobody knows.
class Forgetful final : public Store {
 public:
  explicit Forgetful(Store& store) : store_(store) {}
  void lose_next_answer() { losing_ = true; }

  Status set(std::string_view key, std::string_view value) override {
    HORA_TRY(store_.set(key, value));
    return std::exchange(losing_, false) ? Status(StatusCode::timed_out, "no answer") : Status();
  }
  Result<std::optional<std::string>> get(std::string_view key) override { return store_.get(key); }
  Result<std::string> wait(std::string_view key, Duration timeout) override { return store_.wait(key, timeout); }
  Result<bool> compare_and_swap(std::string_view key, std::optional<std::string_view> expected,
                                std::string_view desired) override {
    return store_.compare_and_swap(key, expected, desired);
  }
  Result<std::int64_t> add(std::string_view key, std::int64_t amount) override { return store_.add(key, amount); }

 private:
  Store& store_;
  bool losing_ = false;
};

TEST_CASE("deaths of members are told one after the other") {
  const SystemClock clock;
  const Log log(LogLevel::error, "test");
  auto server = store::StoreServer::start({"unix:@hora-test-" + entropy_hex(8), "job", "secret"}, clock, log);
  REQUIRE(server.ok());
  store::StoreClient member({.address = (*server)->address(), .job = "job", .secret = "secret"}, clock);
  REQUIRE(member.set(store::member_key("job", "first"), store::encode_member(MemberId{0xa1})).ok());
  REQUIRE(member.set(store::member_key("job", "second"), store::encode_member(MemberId{0xa2})).ok());
  REQUIRE(member.set(store::member_key("job", "odd"), "no number").ok());

  DeathNotices notices(member, "job");
  CHECK(notices.tell("second", "was killed by SIGKILL").ok());
  CHECK(notices.tell("nobody has this one", "exited with status 1").ok());
  CHECK_FALSE(notices.tell("odd", "exited with status 1").ok());
  CHECK(notices.tell("first", "exited with status 3").ok());

  CHECK(member.get(store::death_key("job", 1)).value() == "00000000000000a2 was killed by SIGKILL");
  CHECK(member.get(store::death_key("job", 2)).value() == "00000000000000a1 exited with status 3");
  CHECK(member.get(store::death_key("job", 3)).value() == std::nullopt);
}

TEST_CASE("a death whose telling was not confirmed is not overwritten by the next") {
  const SystemClock clock;
  const Log log(LogLevel::error, "test");
  auto server = store::StoreServer::start({"unix:@hora-test-" + entropy_hex(8), "job", "secret"}, clock, log);
  REQUIRE(server.ok());
  store::StoreClient member({.address = (*server)->address(), .job = "job", .secret = "secret"}, clock);
  REQUIRE(member.set(store::member_key("job", "first"), store::encode_member(MemberId{0xa1})).ok());
  REQUIRE(member.set(store::member_key("job", "second"), store::encode_member(MemberId{0xa2})).ok());

  Forgetful forgetful(member);
  DeathNotices notices(forgetful, "job");
  forgetful.lose_next_answer();
  CHECK_FALSE(notices.tell("first", "was killed by SIGKILL").ok());
  CHECK(notices.tell("second", "exited with status 3").ok());

  CHECK(member.get(store::death_key("job", 1)).value() == "00000000000000a1 was killed by SIGKILL");
  CHECK(member.get(store::death_key("job", 2)).value() == "00000000000000a2 exited with status 3");
}

}  // namespace
}  // namespace hora::launch
