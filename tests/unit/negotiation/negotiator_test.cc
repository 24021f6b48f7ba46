#include "negotiation/negotiator.h"

#include <fmt/format.h>

#include <catch2/catch.hpp>

#include "cluster.h"

using namespace hora;
using namespace hora::negotiation;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""min;
using std::chrono_literals::operator""h;

namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// All ranks executed or refused the last submission of `name` alike.
Cluster::Outcome same_everywhere(const Cluster& cluster, const std::string& name) {
  for (int rank = 1; rank < cluster.size(); ++rank) REQUIRE(cluster.last(rank, name) == cluster.last(0, name));
  return cluster.last(0, name);
}

}  // namespace

TEST_CASE("executes a tensor once every rank has submitted it") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  Cluster cluster({.size = 3, .board_capacity = capacity});
  REQUIRE(cluster.submit(2, "w", allreduce(4), {2, 2}).ok());
  REQUIRE(cluster.submit(0, "w", allreduce(4), {2, 2}).ok());
  cluster.settle();
  CHECK(cluster.node(0).groups.empty());
  CHECK(cluster.negotiator(0).in_flight() == 1);

  REQUIRE(cluster.submit(1, "w", allreduce(4), {2, 2}).ok());
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == 1);
  CHECK(cluster.node(1).groups == std::vector<Cluster::Group>{{allreduce(4), {"w"}}});
  CHECK(cluster.negotiator(0).in_flight() == 0);
}

TEST_CASE("a group of one rank needs nobody") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  Cluster cluster({.size = 1, .board_capacity = capacity});
  for (std::uint64_t round = 1; round <= 3; ++round) {
    REQUIRE(cluster.submit(0, "w", allreduce(1)).ok());
    cluster.settle();
    CHECK(cluster.last(0, "w").group == round);
  }
  CHECK(cluster.messages() == 0);
}

TEST_CASE("a repeated request sends no message") {
  Cluster cluster({.size = 4});
  for (int round = 0; round < 5; ++round) {
    const std::size_t before = cluster.messages();
    for (const char* name : {"a", "b", "c"}) cluster.submit_everywhere(name, allreduce(1));
    cluster.settle();
    CHECK((cluster.messages() == before) == (round > 0));
  }
  CHECK(cluster.node(3).outcomes.at("b").size() == 5);
}

TEST_CASE("ids beyond the board, or without one, use messages") {
  const std::optional<std::uint32_t> capacity =
      GENERATE(std::optional<std::uint32_t>(1), std::optional(0u), std::nullopt);
  Cluster cluster({.size = 3, .board_capacity = capacity});
  for (int round = 0; round < 3; ++round) {
    for (const char* name : {"a", "b", "c"}) cluster.submit_everywhere(name, allreduce(1));
    cluster.settle();
  }
  for (const char* name : {"a", "b", "c"}) {
    CHECK(cluster.node(2).outcomes.at(name).size() == 3);
    CHECK(same_everywhere(cluster, name).group > 0);
  }
}

TEST_CASE("refuses a name that is in flight") {
  Cluster cluster({.size = 2});
  REQUIRE(cluster.submit(1, "w", allreduce(4)).ok());
  const Result<EntryId> again = cluster.submit(1, "w", allreduce(4));
  REQUIRE_FALSE(again.ok());
  CHECK(again.status().code() == StatusCode::invalid_argument);
  CHECK(contains(again.status().message(), "'w'"));

  REQUIRE(cluster.submit(0, "w", allreduce(4)).ok());
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == 1);
  CHECK(cluster.submit(1, "w", allreduce(4)).ok());
}

TEST_CASE("a name stays in flight until its execution is finished") {
  Cluster cluster({.size = 1});
  REQUIRE(cluster.submit(0, "w", allreduce(4)).ok());
  cluster.poll(0);
  REQUIRE(cluster.start(0));
  CHECK_FALSE(cluster.submit(0, "w", allreduce(4)).ok());
  CHECK(cluster.negotiator(0).next_execution() == nullptr);
  cluster.finish(0);
  CHECK(cluster.submit(0, "w", allreduce(4)).ok());
}

TEST_CASE("refuses malformed requests") {
  Cluster cluster({.size = 2});
  const auto code = [&](const std::string& name, const Signature& signature, std::vector<std::int64_t> shape) {
    const Result<EntryId> entry = cluster.submit(0, name, signature, std::move(shape));
    return entry.ok() ? StatusCode::ok : entry.status().code();
  };
  CHECK(code("", allreduce(1), {}) == StatusCode::invalid_argument);
  CHECK(code(std::string(kNameBytesMax + 1, 'x'), allreduce(1), {}) == StatusCode::invalid_argument);
  CHECK(code("w", allreduce(6), {2, 2}) == StatusCode::invalid_argument);
  CHECK(code("w", allreduce(4), {-2, -2}) == StatusCode::invalid_argument);
  CHECK(code("w", allreduce(kElementsLimit), {}) == StatusCode::invalid_argument);
  CHECK(code("w", allreduce(0), {std::int64_t{1} << 40, std::int64_t{1} << 40}) == StatusCode::invalid_argument);
  Signature broadcast{.kind = Collective::broadcast, .dtype = DataType::int8, .op = {}, .root = Rank{2}, .count = 1};
  CHECK(code("w", broadcast, {}) == StatusCode::invalid_argument);
  CHECK(code("w", allreduce(0), {3, 0}) == StatusCode::ok);
  CHECK(code("v", allreduce(1), {}) == StatusCode::ok);
  CHECK(code("u", {}, {}) == StatusCode::ok);
}

TEST_CASE("ranks that disagree get the same error, and can go on") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  const bool known = GENERATE(false, true);
  Cluster cluster({.size = 4, .board_capacity = capacity});
  if (known) {
    cluster.submit_everywhere("w1", allreduce(12), {3, 4});
    cluster.settle();
  }
  for (const int rank : {3, 0, 1}) REQUIRE(cluster.submit(rank, "w1", allreduce(12), {3, 4}).ok());
  REQUIRE(cluster.submit(2, "w1", allreduce(12, DataType::float64), {3, 4}).ok());
  cluster.settle();
  const Cluster::Outcome outcome = same_everywhere(cluster, "w1");
  CHECK(outcome.code == StatusCode::mismatch);
  CHECK(outcome.text ==
        "tensor 'w1': ranks disagree: ranks 0, 1, 3 allreduce sum float32 [3,4]; rank 2 allreduce sum float64 [3,4]");

  const std::size_t before = cluster.messages();
  cluster.submit_everywhere("w1", allreduce(12), {3, 4});
  cluster.settle();
  CHECK(same_everywhere(cluster, "w1").group == (known ? 2 : 1));
  // What was agreed before the error is still agreed.
  if (known && capacity) CHECK(cluster.messages() == before);
}

TEST_CASE("shape, op, root and collective are compared") {
  Cluster cluster({.size = 2});
  const Signature from_0{.kind = Collective::broadcast, .dtype = DataType::int8, .op = {}, .root = Rank{0}, .count = 4};
  Signature from_1 = from_0;
  from_1.root = Rank{1};
  const struct {
    Signature mine;
    Signature other;
    std::vector<std::int64_t> shape;
    std::string text;
  } cases[] = {
      {allreduce(4), allreduce(4), {2, 2}, "rank 0 allreduce sum float32 [4]; rank 1 allreduce sum float32 [2,2]"},
      {allreduce(4), allreduce(4, DataType::float32, ReduceOp::max), {}, "rank 1 allreduce max float32 [4]"},
      {from_0, from_1, {}, "rank 0 broadcast from rank 0 int8 [4]; rank 1 broadcast from rank 1 int8 [4]"},
      {allreduce(0), {}, {}, "rank 0 allreduce sum float32 [0]; rank 1 barrier"},
  };
  for (const auto& [mine, other, shape, text] : cases) {
    REQUIRE(cluster.submit(0, "w", mine).ok());
    REQUIRE(cluster.submit(1, "w", other, shape).ok());
    cluster.settle();
    CHECK(same_everywhere(cluster, "w").code == StatusCode::mismatch);
    CHECK_THAT(cluster.last(1, "w").text, Catch::Contains(text));
  }
}

TEST_CASE("a request that changes on all ranks is agreed again, then cached") {
  Cluster cluster({.size = 3});
  for (const std::uint64_t count : {4, 4, 9, 9, 4}) {
    cluster.submit_everywhere("w", allreduce(count));
    cluster.settle();
    REQUIRE(same_everywhere(cluster, "w").group > 0);
    CHECK(cluster.node(1).groups.back().signature == allreduce(count));
  }
  const std::size_t before = cluster.messages();
  cluster.submit_everywhere("w", allreduce(4));
  cluster.settle();
  CHECK(cluster.messages() == before);
}

TEST_CASE("the log waits for the meaning of its ids") {
  Cluster cluster({.size = 2});
  cluster.submit_everywhere("w", allreduce(4));
  REQUIRE(cluster.deliver_message(1, 0));
  cluster.poll(0);
  REQUIRE(cluster.deliver_log(1));
  CHECK_FALSE(cluster.start(1));
  REQUIRE(cluster.deliver_message(0, 1));
  CHECK(cluster.start(1));
}

TEST_CASE("a log that asks for what was not submitted fails everything, and does not hang") {
  Cluster cluster({.size = 2, .board_capacity = std::nullopt});
  cluster.inject(0, 1, Define{0, "w"});
  REQUIRE(cluster.submit(1, "v", allreduce(1)).ok());
  cluster.inject(0, 1, Append{1, {0}});
  CHECK_FALSE(cluster.start(1));
  CHECK(cluster.last(1, "v").code == StatusCode::internal);
  CHECK_THAT(cluster.last(1, "v").text, Catch::Contains("'w'"));
  CHECK(cluster.submit(1, "u", allreduce(1)).status().code() == StatusCode::internal);
}

TEST_CASE("barrier, broadcast and allgather are groups of their own") {
  Cluster cluster({.size = 2});
  const Signature broadcast{
      .kind = Collective::broadcast, .dtype = DataType::float32, .op = {}, .root = Rank{1}, .count = 4};
  const Signature allgather{
      .kind = Collective::allgather, .dtype = DataType::float32, .op = {}, .root = Rank{0}, .count = 4};
  for (const char* name : {"1", "2"}) {
    cluster.submit_everywhere(fmt::format("barrier{}", name), {});
    cluster.submit_everywhere(fmt::format("broadcast{}", name), broadcast);
    cluster.submit_everywhere(fmt::format("allgather{}", name), allgather);
  }
  cluster.settle();
  REQUIRE(cluster.node(1).groups.size() == 6);
  for (const Cluster::Group& group : cluster.node(1).groups) CHECK(group.names.size() == 1);
  CHECK(cluster.node(1).groups[1].signature == broadcast);
}

TEST_CASE("what arrives while a group is executed is fused") {
  Cluster cluster({.size = 2});
  for (const char* name : {"a", "b", "c", "d"}) cluster.submit_everywhere(name, allreduce(1));
  cluster.settle();
  const std::size_t groups = cluster.node(0).groups.size();

  const auto submit = [&](const char* name) {
    cluster.submit_everywhere(name, allreduce(1));
    while (cluster.deliver_store(0)) continue;
    cluster.poll(0);
  };
  submit("a");
  REQUIRE(cluster.start(0));
  for (const char* name : {"b", "c", "d"}) submit(name);
  cluster.settle();
  REQUIRE(cluster.node(1).groups.size() == groups + 2);
  CHECK(cluster.node(1).groups[groups].names == std::vector<std::string>{"a"});
  CHECK(cluster.node(1).groups[groups + 1].names == std::vector<std::string>{"b", "c", "d"});
  CHECK(cluster.node(1).groups[groups + 1].signature == allreduce(3));
}

TEST_CASE("a full group is queued behind the one that runs") {
  Cluster cluster({.size = 1, .fusion_bytes = 16});
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) REQUIRE(cluster.submit(0, name, allreduce(2)).ok());
  cluster.poll(0);
  REQUIRE(cluster.start(0));
  REQUIRE(cluster.submit(0, "g", allreduce(2)).ok());
  cluster.finish(0);
  // Queued before "e" and "f" could be taken: the window is two groups.
  REQUIRE(cluster.start(0));
  CHECK(cluster.node(0).groups.back().names == std::vector<std::string>{"c", "d"});
  cluster.finish(0);
  CHECK_FALSE(cluster.start(0));
  cluster.settle();
  CHECK(cluster.node(0).groups.back().names == std::vector<std::string>{"g"});
}

TEST_CASE("names who has not submitted, at doubling intervals, on every rank") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  // Known: only the board tells the coordinator. It has not submitted the tensor itself in the last case.
  const bool known = GENERATE(false, true);
  const std::vector<int> submitters = GENERATE(std::vector<int>{0, 2}, std::vector<int>{1, 2});
  const int missing = 3 - submitters[0] - submitters[1];
  Cluster cluster({.size = 3, .board_capacity = capacity});
  if (known) {
    cluster.submit_everywhere("w", allreduce(1));
    cluster.settle();
  }
  for (const int rank : submitters) REQUIRE(cluster.submit(rank, "w", allreduce(1)).ok());
  cluster.settle();

  std::vector<int> reports;
  for (int second = 1; second <= 100; ++second) {
    const std::size_t before = cluster.node(1).stalls.size();
    cluster.advance(1s);
    cluster.settle();
    if (cluster.node(1).stalls.size() > before) reports.push_back(second);
  }
  CHECK(reports == std::vector<int>{10, 20, 40, 80});
  for (int rank = 0; rank < 3; ++rank) CHECK(cluster.node(rank).stalls == cluster.node(1).stalls);
  CHECK(cluster.node(0).stalls[0] ==
        fmt::format("tensor 'w' (allreduce sum float32 [1]): submitted by ranks {}, {}, not by rank {}, for 10.0 s",
                    submitters[0], submitters[1], missing));

  REQUIRE(cluster.submit(missing, "w", allreduce(1)).ok());
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == (known ? 2 : 1));
  cluster.advance(1h);
  cluster.settle();
  CHECK(cluster.node(0).stalls.size() == 4);
  for (int rank = 0; rank < 3; ++rank) CHECK_FALSE(cluster.negotiator(rank).next_deadline().has_value());
}

TEST_CASE("every round starts its own reports") {
  Cluster cluster({.size = 2});
  for (int round = 0; round < 2; ++round) {
    REQUIRE(cluster.submit(1, "w", allreduce(1)).ok());
    for (int second = 0; second < 25; ++second) cluster.advance(1s), cluster.settle();
    REQUIRE(cluster.submit(0, "w", allreduce(1)).ok());
    cluster.settle();
  }
  CHECK(cluster.node(1).stalls.size() == 4);
}

TEST_CASE("what all have submitted does not time out, nor is it reported") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  Cluster cluster({.size = 2, .board_capacity = capacity});
  cluster.submit_everywhere("w", allreduce(1));
  while (cluster.deliver_message(1, 0)) continue;
  cluster.now += 31min;
  cluster.on_deadline(0);
  CHECK(cluster.node(0).stalls.empty());
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == 1);
}

TEST_CASE("what was rejected before stays rejected after an older rejection") {
  Cluster cluster({.size = 2});
  cluster.inject(0, 1, Reject{"w", 2, StatusCode::timed_out, "second"});
  cluster.inject(0, 1, Reject{"w", 1, StatusCode::timed_out, "first"});
  CHECK_FALSE(cluster.submit(1, "w", allreduce(1)).ok());
  CHECK_FALSE(cluster.submit(1, "w", allreduce(1)).ok());
  CHECK(cluster.submit(1, "w", allreduce(1)).ok());
}

TEST_CASE("a name for which there is no room fails at once, also where only all ranks together have too many") {
  Cluster cluster({.size = 2, .limits = {.names_max = 2}});
  for (const char* name : {"a", "b"}) REQUIRE(cluster.submit(0, name, allreduce(1)).ok());
  CHECK(cluster.submit(0, "c", allreduce(1)).status().code() == StatusCode::resource);
  for (const char* name : {"b", "c"}) REQUIRE(cluster.submit(1, name, allreduce(1)).ok());
  cluster.settle();
  CHECK(cluster.last(1, "c").code == StatusCode::resource);
  CHECK(cluster.last(1, "c").text == cluster.last(0, "c").text);
  CHECK_THAT(cluster.last(1, "c").text, Catch::Contains("'c'") && Catch::Contains("2 names"));
  CHECK(same_everywhere(cluster, "b").code == StatusCode::ok);
}

TEST_CASE("many stalled tensors make one report") {
  Cluster cluster({.size = 2});
  for (int i = 0; i < 100; ++i) REQUIRE(cluster.submit(1, fmt::format("w{}", i), allreduce(1)).ok());
  cluster.settle();
  cluster.advance(10s);
  cluster.settle();
  REQUIRE(cluster.node(1).stalls.size() == 1);
  CHECK_THAT(cluster.node(1).stalls[0], Catch::Contains("; and 92 tensors more"));
}

TEST_CASE("a round that times out fails on every rank, also where it is submitted later") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  const bool known = GENERATE(false, true);
  const int late = GENERATE(0, 1, 2);
  Cluster cluster({.size = 3, .board_capacity = capacity});
  if (known) {
    cluster.submit_everywhere("w", allreduce(1));
    cluster.settle();
  }
  for (int rank = 0; rank < 3; ++rank)
    if (rank != late) REQUIRE(cluster.submit(rank, "w", allreduce(1)).ok());
  cluster.settle();
  cluster.advance(29min);
  cluster.settle();
  CHECK(cluster.negotiator(2 - late / 2).in_flight() == 1);
  const bool in_flight = GENERATE(false, true);
  if (in_flight) REQUIRE(cluster.submit(late, "w", allreduce(1)).ok());  // what it says has not arrived yet
  cluster.now += 1min;
  if (late == 0 && in_flight) {
    // The coordinator itself came in time.
    cluster.settle();
    CHECK(same_everywhere(cluster, "w").group > 0);
    return;
  }
  cluster.on_deadline(0);
  if (!in_flight) {
    cluster.settle();
    CHECK_FALSE(cluster.submit(late, "w", allreduce(1)).ok());
  }
  cluster.settle();
  const Cluster::Outcome outcome = same_everywhere(cluster, "w");
  CHECK(outcome.code == StatusCode::timed_out);
  CHECK_THAT(outcome.text, Catch::Contains(fmt::format("not by rank {}, for 1800.0 s", late)));

  cluster.submit_everywhere("w", allreduce(1));
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == (known ? 2 : 1));
}

TEST_CASE("a thousand tensors in a different order on every rank") {
  Cluster cluster({.size = 4, .board_capacity = 1024, .fusion_bytes = 64 << 10});
  Random random(1);
  std::vector<int> order(1000);
  for (int i = 0; i < 1000; ++i) order[i] = i;
  for (int round = 0; round < 2; ++round) {
    for (int rank = 0; rank < 4; ++rank) {
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i)]);
      for (const int i : order) REQUIRE(cluster.submit(rank, fmt::format("layer.{}.weight", i), allreduce(100)).ok());
    }
    cluster.settle();
  }
  for (int rank = 0; rank < 4; ++rank) {
    CHECK(cluster.node(rank).groups == cluster.node(0).groups);
    CHECK(cluster.node(rank).outcomes.size() == 1000);
    for (const auto& [name, outcomes] : cluster.node(rank).outcomes) REQUIRE(outcomes.size() == 2);
  }
  CHECK(cluster.node(0).groups.size() == 2 * 7);  // 163 of them fit into 64 KiB
}

TEST_CASE("messages that contradict have no effect") {
  const std::optional<std::uint32_t> capacity = GENERATE(std::optional<std::uint32_t>(8), std::nullopt);
  Cluster cluster({.size = 3, .board_capacity = capacity});
  cluster.submit_everywhere("w", allreduce(1));
  cluster.settle();
  REQUIRE(cluster.submit(0, "w", allreduce(1)).ok());
  REQUIRE(cluster.submit(2, "w", allreduce(1)).ok());
  cluster.settle();

  const Announce announce{"w", 2, Request(allreduce(1), {})};
  SECTION("of another view") {
    cluster.inject(1, 0, encode(Epoch{6}, announce));
  }
  SECTION("of a round that is over, or not yet there") {
    cluster.inject(1, 0, Announce{"w", 1, announce.request});
    cluster.inject(1, 0, Announce{"w", 3, announce.request});
    cluster.inject(1, 0, Ready{{{0, 1, 0}, {0, 3, 0}}});
  }
  SECTION("of a tensor that is not defined") {
    cluster.inject(1, 0, Ready{{{1, 1, 0}, {kTensorsMax - 1, 1, 0}}});
  }
  SECTION("a second time, with another request") {
    cluster.inject(2, 0, Announce{"w", 2, Request(allreduce(9), {})});
  }
  SECTION("to a member that does not coordinate") {
    cluster.inject(1, 2, announce);
  }
  SECTION("from a member that does not coordinate") {
    cluster.inject(1, 2, Append{2, {0}});
    cluster.inject(1, 2, Reject{"w", 2, StatusCode::mismatch, "no"});
    cluster.inject(1, 2, Stall{"no"});
    cluster.inject(1, 0, Define{3, "v"});
    cluster.inject(1, 0, Reject{"w", 2, StatusCode::mismatch, "no"});
  }
  SECTION("from a stranger") {
    cluster.inject(9, 0, announce);
  }
  SECTION("from the coordinator, unlike what it said before") {
    cluster.inject(0, 2, Define{0, "v"});
    cluster.inject(0, 2, Define{5, "w"});
    cluster.inject(0, 2, Append{1, {0}});
    cluster.inject(0, 2, Append{3, {0}});
    cluster.inject(0, 2, Reject{"w", 1, StatusCode::mismatch, "no"});
  }
  cluster.settle();
  for (const int rank : {0, 2}) {
    CHECK(cluster.negotiator(rank).in_flight() == 1);
    CHECK(cluster.node(rank).groups.size() == 1);
    CHECK(cluster.node(rank).stalls.empty());
  }
  REQUIRE(cluster.submit(1, "w", allreduce(1)).ok());
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == 2);
  cluster.submit_everywhere("w", allreduce(1));
  cluster.settle();
  CHECK(same_everywhere(cluster, "w").group == 3);
}
