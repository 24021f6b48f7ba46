#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <filesystem>
#include <thread>

#include "base/entropy.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "elastic/store/store_client.h"
#include "elastic/store/store_server.h"
#include "eventually.h"
#include "interfaces/system_clock.h"

namespace hora::store {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using Catch::Contains;

std::string new_address() {
  return "unix:@hora-test-" + entropy_hex(8);
}

struct Served {
  explicit Served(const std::string& address = new_address()) {
    auto started = StoreServer::start({address, "job", "secret"}, clock, log);
    REQUIRE(started.ok());
    server = std::move(*started);
  }
  [[nodiscard]] ClientConfig config() const { return {server->address(), "job", "secret", 10s}; }

  SystemClock clock;
  Log log{LogLevel::error, "test"};
  std::unique_ptr<StoreServer> server;
};

TEST_CASE("store keeps what it is given") {
  const bool tcp = GENERATE(false, true);
  Served served(tcp ? "tcp:127.0.0.1:0" : new_address());
  StoreClient client(served.config(), served.clock);
  CHECK(client.get("k").value() == std::nullopt);
  REQUIRE(client.set("k", std::string("v\0w", 3)).ok());
  CHECK(client.get("k").value() == std::string("v\0w", 3));
  CHECK(client.wait("k", 1s).value() == std::string("v\0w", 3));
}

TEST_CASE("store compares and swaps") {
  Served served;
  StoreClient client(served.config(), served.clock);
  CHECK_FALSE(client.compare_and_swap("k", "a", "b").value());
  CHECK(client.compare_and_swap("k", std::nullopt, "a").value());
  CHECK_FALSE(client.compare_and_swap("k", std::nullopt, "b").value());
  CHECK_FALSE(client.compare_and_swap("k", "b", "c").value());
  CHECK(client.compare_and_swap("k", "a", "b").value());
  CHECK(client.get("k").value() == "b");
}

TEST_CASE("store adds, also from many clients at once") {
  Served served;
  StoreClient client(served.config(), served.clock);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      StoreClient own(served.config(), served.clock);
      for (int j = 0; j < 50; ++j) (void)own.add("n", 1);
    });
  for (auto& thread : threads) thread.join();
  CHECK(client.add("n", -200).value() == 0);
  REQUIRE(client.set("n", "text").ok());
  CHECK(client.add("n", 1).status().code() == StatusCode::invalid_argument);
  REQUIRE(client.set("n", std::to_string(INT64_MAX)).ok());
  CHECK(client.add("n", 1).status().code() == StatusCode::invalid_argument);
}

TEST_CASE("a wait ends when the key comes and keeps no other call of its client waiting") {
  Served served;
  StoreClient client(served.config(), served.clock);
  std::string got;
  std::thread waiter([&] { got = client.wait("later", 10s).value(); });
  REQUIRE(client.set("other", "x").ok());
  REQUIRE(client.set("later", "now").ok());
  waiter.join();
  CHECK(got == "now");
}

TEST_CASE("a wait that ends without the key names address and key") {
  Served served;
  StoreClient client(served.config(), served.clock);
  const auto got = client.wait("never", 30ms);
  CHECK(got.status().code() == StatusCode::timed_out);
  CHECK_THAT(std::string(got.status().message()),
             Contains(served.server->address()) && Contains("\"never\"") && Contains("30 ms"));
  CHECK(client.set("never", "late").ok());
}

TEST_CASE("a store that nobody serves is an error with its address") {
  const SystemClock clock;
  StoreClient client({"unix:@hora-test-nobody", "job", "secret", 50ms}, clock);
  const Status status = client.set("k", "v");
  CHECK(status.code() == StatusCode::timed_out);
  CHECK_THAT(std::string(status.message()), Contains("unix:@hora-test-nobody") && Contains("\"k\""));
  StoreClient nonsense({"pigeon", "job", "secret", 50ms}, clock);
  CHECK(nonsense.set("k", "v").code() == StatusCode::invalid_argument);
}

TEST_CASE("a client waits for a store that starts later") {
  const SystemClock clock;
  const Log log{LogLevel::error, "test"};
  const std::string address = new_address();
  StoreClient client({address, "job", "secret", 10s}, clock);
  Status status(StatusCode::internal, "not run");
  std::thread caller([&] { status = client.set("k", "v"); });
  auto server = StoreServer::start({address, "job", "secret"}, clock, log);
  caller.join();
  CHECK(status.to_string() == "ok");
}

TEST_CASE("the store refuses strangers and goes on") {
  Served served;
  ClientConfig config = served.config();
  SECTION("wrong secret") {
    config.secret = "guess";
  }
  SECTION("wrong job") {
    config.job = "other";
  }
  StoreClient stranger(config, served.clock);
  CHECK(stranger.set("k", "v").code() == StatusCode::mismatch);
  auto socket = dial(served.server->address());
  REQUIRE(socket.ok());
  REQUIRE(::send(socket->get(), "\xff\xff\xff\xff\xff", 5, MSG_NOSIGNAL) == 5);
  StoreClient client(served.config(), served.clock);
  CHECK(client.get("k").value() == std::nullopt);
}

// Standard error while it lives.
class ErrorStream {
 public:
  ErrorStream() : before_(::dup(STDERR_FILENO)) {
    REQUIRE(::pipe(ends_) == 0);
    REQUIRE(::dup2(ends_[1], STDERR_FILENO) == STDERR_FILENO);
  }
  ~ErrorStream() {
    ::dup2(before_, STDERR_FILENO);
    for (const int fd : {before_, ends_[0], ends_[1]}) ::close(fd);
  }
  ErrorStream(const ErrorStream&) = delete;
  ErrorStream& operator=(const ErrorStream&) = delete;
  // The first that is written.
  [[nodiscard]] std::string read() const {
    pollfd polled{ends_[0], POLLIN, 0};
    char text[1024];
    const ssize_t bytes = ::poll(&polled, 1, 10'000) == 1 ? ::read(ends_[0], text, sizeof text) : 0;
    return {text, static_cast<std::size_t>(std::max<ssize_t>(bytes, 0))};
  }

 private:
  int before_;
  int ends_[2];
};

TEST_CASE("the store serves again after the process was out of descriptors") {
  Served served;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  std::string said;
  {
    const ErrorStream errors;
    const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const rlimit full{static_cast<rlim_t>(client.get()) + 1, before.rlim_max};  // it got the lowest that was free
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &full) == 0);
    const std::string name = served.server->address().substr(std::string("unix:@").size());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(name.begin(), name.end(), address.sun_path + 1);
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    CHECK(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length) == 0);
    said = errors.read();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  }
  CHECK_THAT(said, Contains("accept"));
  StoreClient client(served.config(), served.clock);
  CHECK(client.set("k", "v").to_string() == "ok");
}

TEST_CASE("strangers that say nothing do not use up the process's descriptors") {
  Served served("tcp:127.0.0.1:0");
  const auto open = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = open();
  std::vector<UniqueFd> strangers;
  constexpr int kFlood = 400;
  for (int i = 0; i < kFlood; ++i) {
    auto socket = dial(served.server->address());
    REQUIRE(socket.ok());
    strangers.push_back(std::move(*socket));
  }
  CHECK(control::eventually([&] { return open() - before == kFlood + 256; }));
  strangers.clear();
  StoreClient client(served.config(), served.clock);
  CHECK(client.set("k", "v").to_string() == "ok");
}

TEST_CASE("a lost store is an error at once") {
  Served served;
  StoreClient client(served.config(), served.clock);
  REQUIRE(client.set("k", "v").ok());
  Status status;
  std::thread waiter([&] { status = client.wait("never", 10s).status(); });
  // The waiter is being served once a counter it shares the server with has moved; its fate is the same either way.
  REQUIRE(client.add("n", 1).ok());
  const auto address = served.server->address();
  served.server.reset();
  StoreClient impatient({address, "job", "secret", 30ms}, served.clock);
  CHECK(impatient.get("k").status().code() == StatusCode::timed_out);
  served.server = std::move(StoreServer::start({address, "job", "secret"}, served.clock, served.log).value());
  REQUIRE(client.set("never", "x").ok());  // ends the waiter that was not yet connected
  waiter.join();
  CHECK((status.ok() || status.code() == StatusCode::resource));
}

TEST_CASE("the map frees the space of what it replaces and refuses more than its limit") {
  StoreMap map(100);
  const auto set = [&](std::string key, std::size_t bytes) {
    return map.apply(1, {Operation::set, std::move(key), std::string(bytes, 'x'), {}, 0}).at(0).second.status;
  };
  for (int i = 0; i < 10; ++i) CHECK(set("a", 90).ok());
  CHECK(set("b", 20).code() == StatusCode::resource);
  CHECK(set("a", 10).ok());
  CHECK(set("b", 20).ok());
}

TEST_CASE("the map forgets a waiter that is gone") {
  StoreMap map(100);
  CHECK(map.apply(1, {Operation::wait, "k", {}, {}, 0}).empty());
  CHECK(map.apply(2, {Operation::wait, "k", {}, {}, 0}).empty());
  map.forget(1);
  const Answers answers = map.apply(3, {Operation::set, "k", "v", {}, 0});
  REQUIRE(answers.size() == 2);
  CHECK(answers[0].first == 3);
  CHECK(answers[1].first == 2);
  CHECK(answers[1].second.value == "v");
}

TEST_CASE("requests and replies survive encoding, and nothing malformed does") {
  const Request request{Operation::compare_and_swap, "key", "value", "expected", -5};
  const wire::Bytes frame = encode(request);
  const auto decoded = decode_request(frame);
  REQUIRE(decoded.ok());
  CHECK(decoded.value().expected == "expected");
  CHECK(decoded.value().amount == -5);
  for (std::size_t bytes = 0; bytes < frame.size(); ++bytes) {
    CHECK_FALSE(decode_request(std::span(frame).first(bytes)).ok());
    CHECK_FALSE(decode_reply(std::span(frame).first(bytes)).ok());
  }
  CHECK_FALSE(decode_request(encode(Request{Operation::get, "", {}, {}, 0})).ok());
  CHECK_FALSE(decode_request(encode(Request{Operation::get, std::string(2000, 'k'), {}, {}, 0})).ok());
}

}  // namespace
}  // namespace hora::store
