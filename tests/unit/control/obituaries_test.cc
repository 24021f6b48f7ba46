#include "engine/obituaries.h"

#include <catch2/catch.hpp>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "base/entropy.h"
#include "elastic/store/obituary.h"
#include "elastic/store/store_server.h"
#include "interfaces/system_clock.h"

namespace hora::engine {
namespace {

using std::chrono_literals::operator""s;
using store::Obituary;

// What the callback was told, so far.
class Told {
 public:
  Obituaries::Callback callback() {
    return [this](MemberId dead, std::string_view reason) {
      const std::lock_guard lock(mutex_);
      obituaries_.push_back({dead, std::string(reason)});
      changed_.notify_all();
    };
  }
  std::vector<Obituary> await(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, 30s, [&] { return obituaries_.size() >= count; });
    return obituaries_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Obituary> obituaries_;
};

struct Served {
  Served() {
    auto started = store::StoreServer::start({"unix:@hora-test-" + entropy_hex(8), "job", "secret"}, clock, log);
    REQUIRE(started.ok());
    server = std::move(*started);
  }
  [[nodiscard]] store::ClientConfig config() const { return {server->address(), "job", "secret", 10s}; }
  std::unique_ptr<Obituaries> reader(Told& told) const {
    auto reader = Obituaries::start(config(), clock, log, told.callback());
    REQUIRE(reader.ok());
    return std::move(*reader);
  }

  SystemClock clock;
  Log log{LogLevel::error, "test"};
  std::unique_ptr<store::StoreServer> server;
};

TEST_CASE("deaths are told in order, those before the start too") {
  Served served;
  store::StoreClient launcher(served.config(), served.clock);
  const std::vector<Obituary> deaths = {{MemberId{0xabc}, "was killed by SIGKILL"},
                                        {MemberId{~std::uint64_t{0}}, "exited with status 1"},
                                        {MemberId{7}, ""}};
  REQUIRE(launcher.set(store::death_key("job", 1), store::encode(deaths[0])).ok());
  Told told;
  const auto reader = served.reader(told);
  CHECK(told.await(1) == std::vector{deaths[0]});
  REQUIRE(launcher.set(store::death_key("job", 3), store::encode(deaths[2])).ok());
  REQUIRE(launcher.set(store::death_key("job", 2), store::encode(deaths[1])).ok());
  CHECK(told.await(3) == deaths);
}

TEST_CASE("what is no obituary is passed over") {
  Served served;
  store::StoreClient launcher(served.config(), served.clock);
  REQUIRE(launcher.set(store::death_key("job", 1), "nonsense").ok());
  REQUIRE(launcher.set(store::death_key("job", 2), "2a was lost").ok());
  Told told;
  const auto reader = served.reader(told);
  CHECK(told.await(1) == std::vector<Obituary>{{MemberId{42}, "was lost"}});
}

// Each of these hangs if the end of the reader does not end its wait.
TEST_CASE("a reader of deaths ends promptly") {
  Served served;
  Told told;
  SECTION("while it waits") {
    store::StoreClient launcher(served.config(), served.clock);
    REQUIRE(launcher.set(store::death_key("job", 1), "1 x").ok());
    auto reader = served.reader(told);
    CHECK(told.await(1).size() == 1);
    reader.reset();
  }
  SECTION("before it has begun") {
    served.reader(told).reset();
  }
  SECTION("while nobody listens at the store") {
    auto config = served.config();
    config.address = "unix:@hora-test-" + entropy_hex(8);
    auto reader = Obituaries::start(config, served.clock, served.log, told.callback());
    REQUIRE(reader.ok());
    reader->reset();
  }
  SECTION("after the store was lost") {
    auto reader = served.reader(told);
    served.server.reset();
    reader.reset();
  }
}

TEST_CASE("an obituary is read as it was written") {
  const Obituary obituary{MemberId{0x1234567890abcdef}, "was lost with its host h2"};
  CHECK(store::encode(obituary) == "1234567890abcdef was lost with its host h2");
  CHECK(store::decode_obituary(store::encode(obituary)).value() == obituary);
  for (const char* text : {"", " ", "x", "12 ", "123456789012345678901 too long", "-1 x"}) {
    const bool good = std::string_view(text) == "12 ";
    CHECK(store::decode_obituary(text).ok() == good);
  }
}

}  // namespace
}  // namespace hora::engine
