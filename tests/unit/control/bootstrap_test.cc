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

  std::vector<Result<Founding>> meet(const std::vector<Options>& ranks, const std::vector<std::uint64_t>& hosts = {},
                                     bool tcp = true) {
    std::vector<Result<Founding>> outcomes(ranks.size(), Status(StatusCode::internal, "not run"));
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < ranks.size(); ++i)
      threads.emplace_back([&, i] {
        store::StoreClient client({server->address(), "job", "secret"}, clock);
        const auto host = hosts.empty() ? 5 : hosts[i];
        outcomes[i] = agree(ranks[i], &client, clock,
                            {new_member_id(), host, tcp ? "tcp:10.0.0.1:" + std::to_string(ranks[i].rank) : ""});
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
    CHECK(founding.view.members[i].address == "tcp:10.0.0.1:" + std::to_string(i));
    ids.insert(founding.view.members[i].id.value);
  }
  const View& view = outcomes[0].value().view;
  CHECK(ids.size() == 5);
  CHECK(view.epoch == Epoch{1});
  CHECK(view.config.silence_ms == 1000);
  CHECK(view.config.chunk_bytes >= 4096);  // fits the caches of rank 0
  CHECK(view.members[3].host == 5);
}

TEST_CASE("a job of one needs no store") {
  const SystemClock clock;
  const auto founding = agree(options(0, 1), nullptr, clock, {MemberId{9}, 5, ""});
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
  CHECK_THAT(std::string(agree(many, nullptr, clock, {MemberId{1}, 5, ""}).status().message()), Contains("HORA_STORE"));
  Options none = options(0, 0);
  CHECK_FALSE(agree(none, nullptr, clock, {MemberId{1}, 5, ""}).ok());
  Options strict = options(0, 1);
  strict.min_size = 2;
  CHECK_THAT(std::string(agree(strict, nullptr, clock, {MemberId{1}, 5, ""}).status().message()),
             Contains("HORA_MIN_SIZE"));
}

TEST_CASE("founders of one host share memory, others mix, unless rank 0 says otherwise") {
  std::vector<Options> ranks = {options(0, 3), options(1, 3), options(2, 3)};
  std::vector<std::uint64_t> hosts = {5, 5, 6};
  Transport expected = Transport::mixed;
  SECTION("one host") {
    hosts = {5, 5, 5}, expected = Transport::shm;
  }
  SECTION("two hosts") {}
  SECTION("rank 0 asks for tcp") {
    hosts = {5, 5, 5}, ranks[0].transport = Transport::tcp, expected = Transport::tcp;
  }
  SECTION("what others ask for does not count") {
    ranks[1].transport = Transport::tcp;
  }
  for (const auto& outcome : Gathering().meet(ranks, hosts)) {
    REQUIRE(outcome.status().to_string() == "ok");
    CHECK(outcome.value().view.config.transport == expected);
  }
}

TEST_CASE("a transport that does not reach everybody is an error on all that names two ranks or the one") {
  std::vector<Options> ranks = {options(0, 3), options(1, 3), options(2, 3)};
  std::vector<std::uint64_t> hosts = {5, 5, 6};
  bool tcp = true;
  std::string expected;
  SECTION("shared memory across hosts") {
    ranks[0].transport = Transport::shm, expected = "ranks 0 and 2 cannot share memory";
  }
  SECTION("hosts without addresses") {
    tcp = false, expected = "rank 0 listens on no TCP address";
  }
  SECTION("tcp without addresses") {
    hosts = {5, 5, 5}, ranks[0].transport = Transport::tcp, tcp = false, expected = "rank 0 listens on no TCP address";
  }
  for (const auto& outcome : Gathering().meet(ranks, hosts, tcp)) {
    CHECK(outcome.status().code() == StatusCode::unsupported);
    CHECK_THAT(std::string(outcome.status().message()), Contains(expected) && Contains("HORA_TRANSPORT"));
  }
}

struct Newcomers : Gathering {
  Result<RunningJob> come(const Member& self, const Options& how = options(0, 1)) {
    store::StoreClient client({server->address(), "job", "secret"}, clock);
    return find_members(how, client, clock, self);
  }
};

TEST_CASE("newcomers find the founders and who came before them") {
  Newcomers job;
  std::vector<Options> ranks = {options(0, 2), options(1, 2)};
  ranks[0].silence_ms = 777;
  Result<RunningJob> early(Status(StatusCode::internal, "not run"));
  std::thread waits([&] { early = job.come({MemberId{11}, 5, "tcp:10.0.0.9:1"}); });
  const auto founded = job.meet(ranks);
  waits.join();
  REQUIRE(early.status().to_string() == "ok");
  REQUIRE(founded[0].ok());
  CHECK(early->members == founded[0].value().view.members);
  CHECK(early->config.silence_ms == 777);

  const auto second = job.come({MemberId{12}, 5, ""});
  REQUIRE(second.ok());
  REQUIRE(second.value().members.size() == 3);
  CHECK(second.value().members[2] == Member{MemberId{11}, 5, "tcp:10.0.0.9:1"});
}

TEST_CASE("of newcomers that come at once, of any two one finds the other") {
  constexpr std::size_t kNewcomers = 6;
  Newcomers job;
  REQUIRE(job.meet({options(0, 1)})[0].ok());
  std::vector<Result<RunningJob>> found(kNewcomers, Status(StatusCode::internal, "not run"));
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kNewcomers; ++i)
    threads.emplace_back([&, i] { found[i] = job.come({MemberId{100 + i}, 5, ""}); });
  for (auto& thread : threads) thread.join();
  std::set<std::pair<std::size_t, std::size_t>> pairs;
  for (std::size_t i = 0; i < kNewcomers; ++i) {
    REQUIRE(found[i].ok());
    for (const Member& member : found[i]->members)
      if (member.id.value >= 100 && member.id.value < 100 + kNewcomers) {
        const std::size_t other = member.id.value - 100;
        CHECK(pairs.emplace(std::min(i, other), std::max(i, other)).second);
      }
  }
  CHECK(pairs.size() == kNewcomers * (kNewcomers - 1) / 2);
}

TEST_CASE("a newcomer that cannot be in the job is told why") {
  Newcomers job;
  CHECK_THAT(std::string(job.come({MemberId{1}, 5, ""}, options(0, 1, 50)).status().message()),
             Contains("was not founded within 50 ms"));
  REQUIRE(job.meet({options(0, 2), options(1, 2)})[0].ok());
  CHECK_THAT(std::string(job.come({MemberId{1}, 6, "tcp:10.0.0.9:1"}).status().message()),
             Contains("cannot share memory"));

  Newcomers failed;
  REQUIRE_FALSE(failed.meet({options(0, 2, 50)})[0].ok());
  CHECK_THAT(std::string(failed.come({MemberId{1}, 5, ""}).status().message()), Contains("rank 1 did not come"));

  Newcomers tcp;
  Options asks = options(0, 1);
  asks.transport = Transport::tcp;
  REQUIRE(tcp.meet({asks})[0].ok());
  CHECK_THAT(std::string(tcp.come({MemberId{1}, 5, ""}).status().message()), Contains("HORA_TRANSPORT=tcp"));
}

TEST_CASE("the launcher learns which member each of its processes is") {
  Newcomers job;
  Options founder = options(0, 1), newcomer = options(0, 1);
  founder.launch_token = "first";
  newcomer.launch_token = "second";
  const auto founding = job.meet({founder});
  REQUIRE(founding[0].ok());
  REQUIRE(job.come({MemberId{0x2a}, 5, ""}, newcomer).ok());
  store::StoreClient client({job.server->address(), "job", "secret"}, job.clock);
  const std::uint64_t id = founding[0].value().view.members[0].id.value;
  CHECK(std::stoull(client.get("hora/job/member/first").value().value_or("0"), nullptr, 16) == id);
  CHECK(client.get("hora/job/member/second").value() == "000000000000002a");
}

TEST_CASE("a member listens at the address by which the store is reached") {
  Options how = options(0, 2);
  how.store = "unix:@store";
  CHECK(own_tcp_host(how).value().empty());
  how.transport = Transport::tcp;
  CHECK(own_tcp_host(how).value() == "127.0.0.1");
  how.store = "tcp:127.0.0.1:9";
  how.transport.reset();
  CHECK(own_tcp_host(how).value() == "127.0.0.1");
  how.socket_interface = "=lo";
  CHECK(own_tcp_host(how).value() == "127.0.0.1");
  how.socket_interface = "=no-such-interface";
  CHECK_THAT(std::string(own_tcp_host(how).status().message()), Contains("HORA_SOCKET_IFNAME"));
}

TEST_CASE("two processes of one machine are on the same host") {
  const auto host = this_host();
  REQUIRE(host.ok());
  CHECK(host.value() == this_host().value());
  CHECK(new_member_id() != new_member_id());
}

}  // namespace
}  // namespace hora::engine
