// Options out of an environment: defaults, every variable, refusals that name what is wrong.
#include <stdlib.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>

#include "base/environment.h"
#include "base/failpoint.h"
#include "base/options_parser.h"

namespace hora {
namespace {

using Catch::Contains;

Result<ParsedOptions> parse(Environment::Values values) {
  return parse_options(Environment(std::move(values)));
}

std::string refusal(Environment::Values values) {
  const auto parsed = parse(std::move(values));
  REQUIRE_FALSE(parsed.ok());
  return parsed.status().to_string();
}

Environment::Values rank_of_four(Environment::Values more = {}) {
  more.insert({{"HORA_RANK", "3"}, {"HORA_SIZE", "4"}, {"HORA_STORE", "unix:@store"}});
  return more;
}

TEST_CASE("options_of_an_empty_environment_are_a_job_of_one") {
  const auto parsed = parse({});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().options.rank == 0);
  CHECK(parsed.value().options.size == 1);
  CHECK(parsed.value().options.silence_ms == 3000);
  CHECK(parsed.value().options.fusion_bytes == 16u << 20);
  CHECK(parsed.value().warnings.empty());
}

TEST_CASE("options_read_every_variable") {
  const auto parsed = parse(rank_of_four({{"HORA_JOB", "job-7.a_B"},
                                          {"HORA_SECRET", "hush"},
                                          {"HORA_START_TIMEOUT_MS", "1"},
                                          {"HORA_SILENCE_MS", "20"},
                                          {"HORA_STALL_WARNING_MS", "30"},
                                          {"HORA_OPERATION_TIMEOUT_MS", "40"},
                                          {"HORA_MIN_SIZE", "2"},
                                          {"HORA_FUSION_BYTES", "8M"},
                                          {"HORA_CHUNK_BYTES", "64k"},
                                          {"HORA_ONE_SHOT_BYTES", "4096"},
                                          {"HORA_KILL_SUSPECTS", "1"}}));
  REQUIRE(parsed.ok());
  const Options& options = parsed.value().options;
  CHECK(options.rank == 3);
  CHECK(options.size == 4);
  CHECK(options.job == "job-7.a_B");
  CHECK(options.store == "unix:@store");
  CHECK(options.secret == "hush");
  CHECK(options.start_timeout_ms == 1);
  CHECK(options.silence_ms == 20);
  CHECK(options.stall_warning_ms == 30);
  CHECK(options.operation_timeout_ms == 40);
  CHECK(options.min_size == 2);
  CHECK(options.fusion_bytes == 8u << 20);
  CHECK(options.chunk_bytes == 64u << 10);
  CHECK(options.one_shot_bytes == 4096);
  CHECK(options.kill_suspects);
  CHECK(parsed.value().warnings.empty());
}

TEST_CASE("options_refuse_bad_values_and_name_them") {
  const std::string silence = refusal({{"HORA_SILENCE_MS", "3s"}});
  CHECK_THAT(silence, Contains("HORA_SILENCE_MS") && Contains("'3s'") && Contains("10 to 86400000"));
  CHECK_THAT(refusal({{"HORA_SILENCE_MS", "9"}}), Contains("'9'"));
  CHECK_THAT(refusal({{"HORA_SILENCE_MS", "-5"}}), Contains("'-5'"));
  CHECK_THAT(refusal({{"HORA_FUSION_BYTES", "2G"}}), Contains("HORA_FUSION_BYTES") && Contains("K, M and G"));
  CHECK_THAT(refusal({{"HORA_KILL_SUSPECTS", "yes"}}), Contains("HORA_KILL_SUSPECTS") && Contains("0 or 1"));
  CHECK_THAT(refusal({{"HORA_JOB", "a/b"}}), Contains("HORA_JOB") && Contains("a/b"));
  CHECK_THAT(refusal({{"HORA_JOB", std::string(65, 'x')}}), Contains("1 to 64"));
  CHECK_THAT(refusal({{"HORA_LOG", "loud"}}), Contains("HORA_LOG") && Contains("'loud'"));
}

TEST_CASE("options_set_by_a_program_have_the_same_ranges") {
  CHECK(check_options(Options()).ok());
  const auto refuses = [](const std::function<void(Options&)>& change, const std::string& word) {
    Options options;
    change(options);
    const Status status = check_options(options);
    CHECK(status.code() == StatusCode::invalid_argument);
    CHECK_THAT(std::string(status.message()), Contains(word));
  };
  refuses([](Options& o) { o.silence_ms = 0; }, "HORA_SILENCE_MS: 0 is not from 10 to 86400000");
  refuses([](Options& o) { o.stall_warning_ms = 0; }, "HORA_STALL_WARNING_MS");
  refuses([](Options& o) { o.sockets_per_pair = 17; }, "HORA_SOCKETS_PER_PAIR");
  refuses([](Options& o) { o.join_log_bytes = 1; }, "HORA_JOIN_LOG_BYTES");
  refuses([](Options& o) { o.one_shot_bytes = kOneShotBytesMost + 1; }, "HORA_ONE_SHOT_BYTES");
  refuses([](Options& o) { o.rank = 1; }, "rank 1 of 1");
  refuses([](Options& o) { o.size = 5000; }, "1 to 4096");
  refuses([](Options& o) { o.job = "a/b"; }, "HORA_JOB");
  refuses([](Options& o) { o.port_first = 2, o.port_last = 1; }, "HORA_PORT_RANGE");
}

TEST_CASE("options_refuse_an_identity_that_does_not_add_up") {
  CHECK_THAT(refusal({{"HORA_SIZE", "2"}, {"HORA_STORE", "s"}}), Contains("HORA_RANK is not set"));
  CHECK_THAT(refusal({{"HORA_RANK", "1"}}), Contains("HORA_RANK") && Contains("0 to 0"));
  CHECK_THAT(refusal({{"HORA_RANK", "4"}, {"HORA_SIZE", "4"}, {"HORA_STORE", "s"}}), Contains("0 to 3"));
  CHECK_THAT(refusal({{"HORA_RANK", "1"}, {"HORA_SIZE", "2"}}), Contains("HORA_STORE is not set"));
  CHECK_THAT(refusal({{"HORA_JOIN", "1"}}), Contains("HORA_STORE is not set although HORA_JOIN is 1"));
  CHECK_THAT(refusal({{"HORA_SIZE", "0"}}), Contains("1 to 4096"));
}

TEST_CASE("options_of_a_launcher_that_knows_nothing_of_hora_name_a_meeting") {
  const Environment::Values mpirun = {{"OMPI_COMM_WORLD_RANK", "1"},
                                      {"OMPI_COMM_WORLD_SIZE", "2"},
                                      {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                      {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  const auto parsed = parse_options(Environment(mpirun), {}, 1234);
  REQUIRE(parsed.ok());
  const Options& options = parsed.value().options;
  CHECK((options.rank == 1 && options.size == 2 && options.local_rank == 1 && options.local_size == 2));
  CHECK(options.store.empty());
  CHECK_THAT(options.meeting, Catch::StartsWith("unix:@hora-1234-mpirun-"));
  CHECK_THAT(options.job, Catch::StartsWith("mpirun-"));
  CHECK(options.launcher == "mpirun of Open MPI (OMPI_COMM_WORLD_RANK=1, OMPI_COMM_WORLD_SIZE=2)");

  Environment::Values more = mpirun;
  more.insert({{"HORA_STORE", "node1:4000"}, {"HORA_SECRET", "hush"}, {"HORA_JOB", "mine"}});
  const auto across_hosts = parse(more);
  REQUIRE(across_hosts.ok());
  CHECK(across_hosts.value().options.store.empty());
  CHECK(across_hosts.value().options.meeting == "tcp:node1:4000");
  CHECK(across_hosts.value().options.secret == "hush");
  CHECK(across_hosts.value().options.job == "mine");
}

TEST_CASE("an_inner_mpirun_does_not_meet_at_the_store_of_an_outer_hora_run") {
  const Environment::Values outer = rank_of_four({{"HORA_LAUNCH_TOKEN", "t"}, {"HORA_SECRET", "hush"}});
  Environment::Values inner = outer;
  inner.insert({{"PMI_RANK", "0"}, {"PMI_SIZE", "2"}});
  const std::vector<Ancestor> ancestors = {{7, 1, Environment(outer)}, {6, 1, Environment(Environment::Values())}};
  const auto parsed = parse_options(Environment(inner), ancestors);
  REQUIRE(parsed.ok());
  const Options& options = parsed.value().options;
  CHECK((options.rank == 0 && options.size == 2));
  CHECK((options.store.empty() && options.secret.empty() && options.launch_token.empty()));
  CHECK_THAT(options.meeting, Catch::StartsWith("unix:@hora-0-mpiexec-"));
}

TEST_CASE("an_address_of_host_and_port_is_one_of_tcp") {
  CHECK(parse(rank_of_four()).value().options.store == "unix:@store");
  CHECK(parse({{"HORA_RANK", "0"}, {"HORA_SIZE", "2"}, {"HORA_STORE", "a:1"}}).value().options.store == "tcp:a:1");
}

TEST_CASE("options_never_tell_the_secret") {
  const std::string text = refusal(rank_of_four({{"HORA_SECRET", "hush"}, {"HORA_MIN_SIZE", "0"}}));
  CHECK_THAT(text, !Contains("hush"));
}

TEST_CASE("unknown_names_are_warned_about_with_the_nearest_known_one") {
  const auto parsed = parse({{"HORA_SILENCE_MSEC", "10"}, {"HORA_LOCAL_RANK", "0"}});
  REQUIRE(parsed.ok());
  REQUIRE(parsed.value().warnings.size() == 1);
  CHECK_THAT(parsed.value().warnings[0], Contains("HORA_SILENCE_MSEC") && Contains("did you mean HORA_SILENCE_MS?"));
}

TEST_CASE("an_empty_value_counts_as_absent") {
  const auto parsed = parse({{"HORA_SILENCE_MS", ""}, {"HORA_RANK", ""}});
  REQUIRE(parsed.ok());
  CHECK(parsed.value().options.silence_ms == 3000);
}

TEST_CASE("failpoints_are_refused_when_they_cannot_be_honoured") {
  if (failpoint::kCompiledIn) {
    CHECK(parse({{"HORA_FAILPOINT", "point=a.b"}}).ok());
    CHECK_THAT(refusal({{"HORA_FAILPOINT", "act=kill"}}), Contains("names no point"));
  } else {
    CHECK_THAT(refusal({{"HORA_FAILPOINT", "point=a.b"}}), Contains("unsupported") && Contains("HORA_FAILPOINTS=ON"));
  }
}

TEST_CASE("numbers_are_whole_and_do_not_wrap") {
  const auto number = [](std::string_view text, Suffixes suffixes) { return parse_number(text, 0, ~0ULL, suffixes); };
  CHECK(number("2G", Suffixes::sizes).value() == 2ULL << 30);
  CHECK(number("18446744073709551615", Suffixes::none).value() == ~0ULL);
  for (const auto* text : {"", "K", " 1", "1 ", "1.5", "0x10", "1KK", "+1", "18446744073709551616"}) {
    INFO("text '" << text << "'");
    CHECK_FALSE(number(text, Suffixes::sizes).ok());
  }
  CHECK_FALSE(number("17179869184G", Suffixes::sizes).ok());
  CHECK_FALSE(number("1K", Suffixes::none).ok());
}

TEST_CASE("an_environment_is_parsed_from_its_block") {
  using namespace std::string_literals;
  const Environment environment = Environment::parse("A=1\0B=x=y\0no value\0C=\0D=last"s);
  CHECK(environment.values().size() == 4);
  CHECK(environment.find("B") == "x=y");
  CHECK(environment.find("D") == "last");
  CHECK_FALSE(environment.find("C").has_value());
  const std::string_view names[] = {"A", "absent"};
  CHECK_FALSE(environment.without(names).find("A").has_value());
}

TEST_CASE("the_environment_of_the_process_is_read") {
  ::setenv("HORA_SILENCE_MS", "77", 1);
  const Environment environment = Environment::of_process();
  const auto options = Options::from_environment();
  ::unsetenv("HORA_SILENCE_MS");
  CHECK(environment.find("HORA_SILENCE_MS") == "77");
  REQUIRE(options.ok());
  CHECK(options.value().silence_ms == 77);
}

TEST_CASE("log_levels_have_names") {
  CHECK(parse_log_level(Environment(Environment::Values())).value() == LogLevel::warn);
  CHECK(parse_log_level(Environment(Environment::Values{{"HORA_LOG", "debug"}})).value() == LogLevel::debug);
}

}  // namespace
}  // namespace hora
