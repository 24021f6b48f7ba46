// The command line of `hora perf`.
#include "perf/options.h"

#include <catch2/catch.hpp>

namespace hora::perf {
namespace {

ParsedCommand parse(std::vector<const char*> words) {
  words.insert(words.begin(), "perf");
  return parse_command(static_cast<int>(words.size()), words.data());
}

TEST_CASE("defaults_are_those_of_the_design") {
  const auto parsed = parse({"allreduce"});
  REQUIRE_FALSE(parsed.finished);
  const RunOptions& options = parsed.options;
  CHECK(options.kind == Collective::allreduce);
  CHECK(options.ranks == 0);
  CHECK(options.bytes_least == 4);
  CHECK(options.bytes_most == 64 << 20);
  CHECK(options.factor == 4);
  CHECK(options.dtype == DataType::float32);
  CHECK(options.op == ReduceOp::sum);
  CHECK(options.front == Front::ordered);
  CHECK(options.placements == std::vector{Placement::out_of_place, Placement::in_place});
}

TEST_CASE("every_option_is_read") {
  const auto parsed = parse({"all_reduce", "-np",         "3",        "-b",           "1K", "-e",     "2M",
                             "-f",         "2",           "-d",       "bfloat16",     "-o", "max",    "--path",
                             "negotiated", "--placement", "in-place", "--iterations", "7",  "--json", "x.json"});
  REQUIRE_FALSE(parsed.finished);
  const RunOptions& options = parsed.options;
  CHECK(options.ranks == 3);
  CHECK(options.bytes_least == 1024);
  CHECK(options.bytes_most == 2 << 20);
  CHECK(options.factor == 2);
  CHECK(options.dtype == DataType::bfloat16);
  CHECK(options.op == ReduceOp::max);
  CHECK(options.front == Front::negotiated);
  CHECK(options.placements == std::vector{Placement::in_place});
  CHECK(options.iterations == 7);
  CHECK(options.json_path == "x.json");
}

TEST_CASE("ranks_get_the_command_line_without_np") {
  const auto parsed = parse({"-np", "2", "broadcast", "-e", "1M"});
  CHECK(parsed.rank_arguments == std::vector<std::string>{"broadcast", "-e", "1M"});
  CHECK(parse({"broadcast", "--np=2"}).rank_arguments == std::vector<std::string>{"broadcast"});
}

TEST_CASE("what_cannot_be_measured_is_a_usage_error") {
  const auto status = [](std::vector<const char*> words) {
    const auto parsed = parse(std::move(words));
    return parsed.finished ? parsed.exit_status : -1;
  };
  CHECK(status({}) == 2);
  CHECK(status({"transpose"}) == 2);
  CHECK(status({"allreduce", "-d", "float8"}) == 2);
  CHECK(status({"allreduce", "-d", "77"}) == 2);
  CHECK(status({"allreduce", "-b", "1X"}) == 2);
  CHECK(status({"allreduce", "-b", "2M", "-e", "1M"}) == 2);
  CHECK(status({"allreduce", "-f", "1"}) == 2);
  CHECK(status({"allreduce", "-np", "0"}) == 2);
  CHECK(status({"allreduce", "-d", "int32", "-o", "average"}) == 2);
  CHECK(status({"broadcast", "--placement", "out-of-place"}) == 2);
  CHECK(status({"barrier", "--path", "negotiated"}) == 2);
  CHECK(status({"allreduce", "--path", "registered"}) == 2);
  CHECK(status({"--help"}) == 0);
}

TEST_CASE("placements_are_those_that_the_library_has") {
  CHECK(parse({"broadcast"}).options.placements == std::vector{Placement::in_place});
  CHECK(parse({"all_gather"}).options.placements == std::vector{Placement::out_of_place, Placement::in_place});
  CHECK(parse({"barrier"}).options.placements == std::vector{Placement::in_place});
}

TEST_CASE("sweeps_hold_whole_elements_and_no_size_twice") {
  RunOptions options;
  options.bytes_least = 1;
  options.bytes_most = 100;
  options.factor = 2;
  CHECK(sizes_of(options, 2) == std::vector<std::uint64_t>{4, 8, 16, 32, 64});
  options.kind = Collective::allgather;
  CHECK(sizes_of(options, 3) == std::vector<std::uint64_t>{12, 24, 60});
  options.kind = Collective::barrier;
  CHECK(sizes_of(options, 3) == std::vector<std::uint64_t>{0});
}

TEST_CASE("larger_sizes_and_crowded_machines_get_fewer_calls") {
  RunOptions options;
  CHECK(calls_for(options, 4, false) == 3000);
  CHECK(calls_for(options, 4, true) == 306);
  CHECK(calls_for(options, 1 << 20, false) == 300);
  CHECK(calls_for(options, 64 << 20, false) == 12);
  options.iterations = 5;
  CHECK(calls_for(options, 4, true) == 5);
}

}  // namespace
}  // namespace hora::perf
