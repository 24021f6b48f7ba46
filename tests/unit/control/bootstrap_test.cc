#include "engine/bootstrap.h"

#include <catch2/catch.hpp>
#include <set>
#include <thread>

#include "base/entropy.h"
#include "elastic/store/store_client.h"
#include "elastic/store/store_server.h"
#include "interfaces/system_clock.h"

namespace hora::engine {
namespace {

using Catch::Contains;

// Ranks that meet at one store, each in a thread.
struct Gathering {
  Gathering() {
    auto started = store::StoreServer::start({"unix:@hora-test-" + entropy_hex(8), "job", "secret"}, clock, log);
    REQUIRE(started.ok());
    server = std::move(*started);
  }

  std::vector<Result<Founding>> meet(const std::vector<Options>& ranks) {
    std::vector<Result<Founding>> outcomes(ranks.size(), Status(StatusCode::internal, "not run"));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < ranks.size(); ++i)
      threads.emplace_back([&, i] {
        store::StoreClient client({server->address(), "job", "secret"}, clock);
        outcomes[i] = agree(ranks[i], &client, clock, new_member_id(), 5, "unix:@rank" + std::to_string(ranks[i].rank));
      });
    for (auto& thread : threads) thread.join();
    return outcomes;
  }

  SystemClock clock;
  Log log{LogLevel::error, "test"};
  std::unique_ptr<store::StoreServer> server;
};

Options options(int rank, int size, std::uint32_t patience_ms = 20'000) {
  Options result;
  result.rank = rank;
  result.size = size;
  result.job = "job";
  result.start_timeout_ms = patience_ms;
  return result;
}

TEST_CASE("founders agree on one view with the config of rank 0") {
  std::vector<Options> ranks;
  for (int rank = 0; rank < 5; ++rank) {
    ranks.push_back(options(rank, 5));
    ranks.back().silence_ms = static_cast<std::uint32_t>(1000 + rank);
  }
  const auto outcomes = Gathering().meet(ranks);
  std::set<std::uint64_t> ids;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    REQUIRE(outcomes[i].status().to_string() == "ok");
    const Founding& founding = outcomes[i].value();
    CHECK(founding.view == outcomes[0].value().view);
    CHECK(founding.self == Rank{static_cast<std::int32_t>(i)});
    CHECK(founding.view.members[i].address == "unix:@rank" + std::to_string(i));
    ids.insert(founding.view.members[i].id.value);
  }
  const View& view = outcomes[0].value().view;
  CHECK(ids.size() == 5);
  CHECK(view.epoch == Epoch{1});
  CHECK(view.config.silence_ms == 1000);
  CHECK(view.config.chunk_bytes == 0);
  CHECK(view.members[3].host == 5);
}

TEST_CASE("a job of one needs no store") {
  const SystemClock clock;
  const auto founding = agree(options(0, 1), nullptr, clock, MemberId{9}, 5, "unix:@alone");
  REQUIRE(founding.ok());
  CHECK(founding.value().view.size() == 1);
  CHECK(founding.value().self == Rank{0});
}

TEST_CASE("all who came hear which ranks did not") {
  const auto outcomes = Gathering().meet({options(0, 4, 100), options(2, 4, 100)});
  for (const auto& outcome : outcomes) {
    CHECK(outcome.status().code() == StatusCode::timed_out);
    CHECK_THAT(std::string(outcome.status().message()),
               Contains("ranks 1, 3 did not come within 100 ms") && Contains("2 of 4 ranks did"));
  }
}

TEST_CASE("who comes too late hears the same") {
  Gathering gathering;
  const auto early = gathering.meet({options(0, 2, 50)});
  const auto late = gathering.meet({options(1, 2, 50)});
  CHECK(early[0].status().code() == StatusCode::timed_out);
  CHECK_FALSE(late[0].ok());
  CHECK(late[0].status().message() == early[0].status().message());
}

TEST_CASE("a wrong rank is an error on all, long before the deadline") {
  std::vector<Options> ranks;
  std::string expected;
  SECTION("two sizes") {
    ranks = {options(0, 3), options(1, 3), options(2, 4)};
    expected = "HORA_SIZE";
  }
  SECTION("one rank twice") {
    ranks = {options(0, 3), options(1, 3), options(1, 3)};
    expected = "two processes are rank 1";
  }
  SECTION("rank out of range") {
    ranks = {options(0, 3), options(1, 3), options(3, 3)};
    expected = "HORA_RANK=3 and HORA_SIZE=3";
  }
  const SystemClock clock;
  const TimePoint began = clock.now();
  const auto outcomes = Gathering().meet(ranks);
  for (const auto& outcome : outcomes) {
    CHECK(outcome.status().code() == StatusCode::invalid_argument);
    CHECK_THAT(std::string(outcome.status().message()), Contains(expected));
  }
  CHECK(clock.now() - began < std::chrono::seconds(15));
}

TEST_CASE("options that cannot work are refused before anything is published") {
  const SystemClock clock;
  Options many = options(0, 2);
  CHECK_THAT(std::string(agree(many, nullptr, clock, MemberId{1}, 5, "").status().message()), Contains("HORA_STORE"));
  Options none = options(0, 0);
  CHECK_FALSE(agree(none, nullptr, clock, MemberId{1}, 5, "").ok());
  Options strict = options(0, 1);
  strict.min_size = 2;
  CHECK_THAT(std::string(agree(strict, nullptr, clock, MemberId{1}, 5, "").status().message()),
             Contains("HORA_MIN_SIZE"));
}

TEST_CASE("two processes of one machine are on the same host") {
  const auto host = this_host();
  REQUIRE(host.ok());
  CHECK(host.value() == this_host().value());
  CHECK(new_member_id() != new_member_id());
}

}  // namespace
}  // namespace hora::engine
