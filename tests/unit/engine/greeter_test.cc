// Rank 0 tells its user's processes where the store is, and nobody else.
#include "engine/greeter.h"

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <string>
#include <thread>

#include "base/entropy.h"
#include "base/socket_address.h"
#include "engine/store_finder.h"
#include "interfaces/system_clock.h"

namespace hora {
namespace {

using Catch::Contains;
using engine::Greeter;
using engine::StoreAccess;

constexpr auto kPatience = std::chrono::seconds(20);

std::string fresh_address() {
  return "unix:@hora-test-" + entropy_hex(8);
}

// Runs `body` in a child of another user. Its exit status, or nothing where this process may not do that.
template <typename Body>
std::optional<int> as_other_user(Body body) {
  if (::geteuid() != 0) return std::nullopt;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(::setgid(65534) == 0 && ::setuid(65534) == 0 ? body() : 100);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 101;
}

TEST_CASE("whoever_asks_is_told_also_before_somebody_listens") {
  const SystemClock clock;
  const std::string address = fresh_address();
  const StoreAccess access{"unix:@store", "job", "secret"};
  Result<StoreAccess> told = Status(StatusCode::internal, "not asked");
  std::thread asking([&] { told = engine::ask_greeter(address, clock.now() + kPatience, clock); });
  const auto greeter = Greeter::start(address, access);
  asking.join();
  REQUIRE(greeter.ok());
  REQUIRE(told.ok());
  CHECK(told.value() == access);
  CHECK(engine::ask_greeter(address, clock.now() + kPatience, clock).value() == access);
}

TEST_CASE("a_name_is_free_again_once_its_greeter_is_gone") {
  const SystemClock clock;
  const std::string address = fresh_address();
  {
    const auto first = Greeter::start(address, {"unix:@one", "job", "secret"});
    REQUIRE(first.ok());
    CHECK_THAT(Greeter::start(address, {}).status().to_string(), Contains("another process of this job is rank 0"));
  }
  const auto second = Greeter::start(address, {"unix:@two", "job", "secret"});
  REQUIRE(second.ok());
  CHECK(engine::ask_greeter(address, clock.now() + kPatience, clock).value().address == "unix:@two");
}

TEST_CASE("who_waits_for_nobody_is_told_so") {
  const SystemClock clock;
  const auto told = engine::ask_greeter(fresh_address(), clock.now() + std::chrono::milliseconds(50), clock);
  CHECK(told.status().code() == StatusCode::timed_out);
}

TEST_CASE("another_users_process_is_not_told") {
  const SystemClock clock;
  const std::string address = fresh_address();
  const auto greeter = Greeter::start(address, {"unix:@store", "job", "secret"});
  REQUIRE(greeter.ok());
  const auto status = as_other_user([&] {
    // One that looks sees that the greeter is not its own; one that does not is sent away without a word.
    const auto told = engine::ask_greeter(address, clock.now() + kPatience, clock);
    const auto socket = dial(address);
    if (told.status().code() != StatusCode::invalid_argument || !socket.ok()) return 8;
    pollfd polled{socket.value().get(), POLLIN, 0};
    char byte = 0;
    return ::poll(&polled, 1, 20'000) == 1 && ::read(socket.value().get(), &byte, 1) == 0 ? 7 : 9;
  });
  if (!status) return (void)std::puts("SKIPPED: only root can be another user");
  CHECK(*status == 7);
}

TEST_CASE("another_users_greeter_is_not_believed") {
#ifdef __SANITIZE_THREAD__
  return (void)std::puts("SKIPPED: the thread sanitizer starts no threads in a forked process");
#endif
  const SystemClock clock;
  const std::string address = fresh_address();
  int ready[2], done[2];
  REQUIRE((::pipe(ready) == 0 && ::pipe(done) == 0));
  std::thread asking([&] {
    char byte = 0;
    if (::read(ready[0], &byte, 1) != 1) return;
    const auto told = engine::ask_greeter(address, clock.now() + kPatience, clock);
    byte = told.status().code() == StatusCode::invalid_argument ? 'y' : 'n';
    [[maybe_unused]] const auto bytes = ::write(done[1], &byte, 1);
  });
  const auto status = as_other_user([&] {
    const auto greeter = Greeter::start(address, {"unix:@trap", "job", "secret"});
    char byte = 'r';
    if (!greeter.ok() || ::write(ready[1], &byte, 1) != 1 || ::read(done[0], &byte, 1) != 1) return 9;
    return byte == 'y' ? 7 : 8;
  });
  ::close(ready[1]);
  asking.join();
  for (const int fd : {ready[0], done[0], done[1]}) ::close(fd);
  if (!status) return (void)std::puts("SKIPPED: only root can be another user");
  CHECK(*status == 7);
}

TEST_CASE("ranks_find_the_store_that_rank_0_hosts") {
  const SystemClock clock;
  const Log log(LogLevel::error, "test");
  Options options;
  options.size = 2;
  options.job = "finders";
  options.secret = GENERATE("", "hush");
  options.meeting = fresh_address();
  const auto host = engine::find_store(options, clock, log);
  REQUIRE(host.ok());
  options.rank = 1;
  const auto other = engine::find_store(options, clock, log);
  REQUIRE(other.ok());
  CHECK(other.value().access == host.value().access);
  CHECK(host.value().access.job == "finders");
  CHECK((options.secret.empty() ? host.value().access.secret.size() == 32 : host.value().access.secret == "hush"));
}

TEST_CASE("over_tcp_all_meet_at_the_store_itself") {
  const SystemClock clock;
  const Log log(LogLevel::error, "test");
  Options options;
  options.size = 4;
  options.local_size = 2;  // the others are elsewhere
  options.secret = "hush";
  options.meeting = "tcp:127.0.0.1:0";
  const auto host = engine::find_store(options, clock, log);
  REQUIRE(host.ok());
  CHECK_THAT(host.value().access.address, Catch::StartsWith("tcp:127.0.0.1:"));
  CHECK(host.value().greeter == nullptr);
  options.meeting = "tcp:192.0.2.1:4000";
  CHECK_THAT(engine::find_store(options, clock, log).status().to_string(),
             Contains("HORA_STORE") && Contains("192.0.2.1") && Contains("its host"));
}

TEST_CASE("ranks_of_several_hosts_are_told_what_to_set") {
  const SystemClock clock;
  Options options;
  options.size = 4;
  options.local_size = 2;
  options.meeting = fresh_address();
  CHECK_THAT(engine::find_store(options, clock, Log(LogLevel::error, "test")).status().to_string(),
             Contains("only 2 of 4 ranks are on this host") && Contains("HORA_STORE=HOST:PORT"));
}

TEST_CASE("the_absence_of_rank_0_is_said") {
  const SystemClock clock;
  Options options;
  options.size = 2;
  options.rank = 1;
  options.meeting = fresh_address();
  options.start_timeout_ms = 50;
  CHECK_THAT(engine::find_store(options, clock, Log(LogLevel::error, "test")).status().to_string(),
             Contains("timed_out") && Contains("rank 0 did not come within 50 ms"));
}

}  // namespace
}  // namespace hora
