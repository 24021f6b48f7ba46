#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "base/command_line.h"
#include "base/environment.h"
#include "cli/commands.h"
#include "hora/types.hpp"
#include "launch/host_list.h"
#include "launch/launcher.h"
#include "launch/passed_variables.h"

namespace hora::cli {
namespace {

constexpr int kWrongUsage = 2;
// Never asks for a password, and does not wait for a host that is not there for as long as the network would.
constexpr const char* kShell = "ssh -o BatchMode=yes -o ConnectTimeout=10";
constexpr int kRestartsMax = 1'000'000;

// What the command line says, before it is checked.
struct RunArguments {
  int ranks = 0;
  std::optional<int> min_ranks;
  std::optional<int> max_ranks;
  int max_restarts = 0;
  std::string hosts;
  std::string shell;
  std::string store_address;
  std::vector<std::string> passed;
  bool untagged = false;
  double grace_s = 5;
  double host_silence_s = 15;
  std::vector<std::string> command;
};

int usage_error(const std::string& message) {
  std::fprintf(stderr, "hora run: %s\n", message.c_str());
  return kWrongUsage;
}

void describe(CLI::App& app, RunArguments& arguments) {
  app.prefix_command();
  app.add_option("-n,--np", arguments.ranks, "ranks to start (also -np)")->required()->check(CLI::Range(1, kRanksMost));
  app.add_option("--min-np", arguments.min_ranks,
                 "the job goes on with no fewer ranks, and succeeds if at least so many end with 0 (default: all, but\n"
                 "1 with --max-restarts: a job that has stopped replaces nobody)");
  app.add_option("--max-np", arguments.max_ranks,
                 "most processes at any time: np or more. There are never more than np, whatever stands here: a\n"
                 "replacement takes the place of a dead rank (default: np)");
  app.add_option("--max-restarts", arguments.max_restarts, "how many dead ranks are replaced, in all (default: 0)")
      ->check(CLI::Range(0, kRestartsMax));
  app.add_option("--hosts", arguments.hosts,
                 "where ranks run, and how many on each: h1:2,h2:2 (default: all on this host); ranks go to the first\n"
                 "until it is full, then to the next; localhost and this host's own name need no remote shell");
  app.add_option("--ssh", arguments.shell,
                 "the remote shell, called with a host's name and a command (default: HORA_SSH, else\n" +
                     std::string(kShell) + ")");
  app.add_option("-x", arguments.passed, "NAME or NAME=VALUE: a variable that ranks on all hosts get, as all of HORA_*")
      ->allow_extra_args(false);
  app.add_option("--store-address", arguments.store_address,
                 "the address by which hosts reach this one (default: that towards the first of them)");
  app.add_flag("--no-tags", arguments.untagged, "pass output through as it is, without \"[rank] \" before each line");
  app.add_option("--grace", arguments.grace_s,
                 "seconds that ranks get to end once the job has failed, and again when they were asked to, for that\n"
                 "reason or because hora run got SIGTERM or SIGHUP, before they are killed (default: 5)")
      ->check(CLI::Range(0.0, 3600.0));
  app.add_option("--host-silence", arguments.host_silence_s,
                 "seconds without a word after which a host is lost: its ranks are replaced, and killed there. Ranks\n"
                 "without a quorum stop by themselves after 10 s and say why, so less leaves no reason (default: 15)")
      ->check(CLI::Range(0.1, 3600.0));
  app.footer(
      "CMD and what follows it is the program of every rank. Its standard input is /dev/null.\n"
      "Where several ranks share a host and nobody has set OMP_NUM_THREADS, it is 1.\n"
      "A rank that fails while others run is replaced, as long as restarts are left: by a process with HORA_JOIN=1\n"
      "and without HORA_RANK and HORA_SIZE, whose output is tagged with the next number. Replacements that fail soon\n"
      "after their start come later and later: after 100 ms, then twice that, up to 5 s.\n"
      "Exit status: 0 if at least min-np ranks (each with its replacements) ended with 0, else that of the first that\n"
      "failed and was not replaced, those that were killed (128 + signal) or lost with their host (255) before those\n"
      "that exited; 2 for usage, 126 or 127 if CMD, or the remote shell of a host, cannot be run, 1 if the launcher\n"
      "itself cannot run, 130 for Ctrl-C.");
}

// A job that must not go on with fewer ranks ends at the first death, before anybody can be replaced.
int least_ranks(const RunArguments& arguments) {
  return arguments.min_ranks.value_or(arguments.max_restarts > 0 ? 1 : arguments.ranks);
}

// 0, or the exit status.
int check(RunArguments& arguments) {
  if (arguments.command.empty()) return usage_error("no command to run; see hora run --help");
  if (arguments.command[0].starts_with('-'))
    return usage_error(arguments.command[0] + ": no such option; see hora run --help");
  const int least = least_ranks(arguments), most = arguments.max_ranks.value_or(arguments.ranks);
  if (least < 1 || least > arguments.ranks) return usage_error("--min-np must be between 1 and the number of ranks");
  if (most < arguments.ranks || most > kRanksMost)
    return usage_error(fmt::format("--max-np must be between the number of ranks and {}", kRanksMost));
  return 0;
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

// Where the ranks run. 0, or the exit status.
int read_hosts(const RunArguments& arguments, launch::JobConfig& config) {
  auto passed = launch::passed_variables(arguments.passed);
  if (!passed.ok()) return usage_error("-x: " + std::string(passed.status().message()));
  config.passed = std::move(*passed);
  const Environment environment = Environment::of_process();
  config.shell =
      words(!arguments.shell.empty() ? arguments.shell : std::string(environment.find("HORA_SSH").value_or(kShell)));
  if (config.shell.empty()) return usage_error("--ssh: no command");
  config.store_address = arguments.store_address;
  if (arguments.hosts.empty()) return 0;
  auto hosts = launch::parse_hosts(arguments.hosts);
  if (!hosts.ok()) return usage_error("--hosts: " + std::string(hosts.status().message()));
  if (const auto places = launch::place(*hosts, arguments.ranks); !places.ok())
    return usage_error("--hosts: " + std::string(places.status().message()));
  config.hosts = std::move(*hosts);
  return 0;
}

}  // namespace

int run_command(int argc, char** argv) {
  RunArguments arguments;
  CLI::App app(
      "hora run -np N [OPTIONS] CMD...\nStarts the ranks of a job, hosts their store, watches over them and replaces "
      "the dead.",
      "hora run");
  describe(app, arguments);
  try {
    std::vector<std::string> given = with_long_np(argc, argv, {"-h", "--help", "--no-tags"}, CommandFollows::yes);
    std::reverse(given.begin(), given.end());
    app.parse(given);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return 0;
  } catch (const CLI::ParseError& error) {
    return usage_error(error.what());
  }
  arguments.command = app.remaining();
  if (!arguments.command.empty() && arguments.command[0] == "--") arguments.command.erase(arguments.command.begin());
  if (const int status = check(arguments); status != 0) return status;
  launch::JobConfig config;
  if (const int status = read_hosts(arguments, config); status != 0) return status;
  config.command = std::move(arguments.command);
  config.limits = {arguments.ranks, least_ranks(arguments), arguments.max_restarts};
  config.tags = !arguments.untagged;
  config.host_silence = std::chrono::round<Duration>(std::chrono::duration<double>(arguments.host_silence_s));
  config.grace = std::chrono::round<Duration>(std::chrono::duration<double>(arguments.grace_s));
  return launch::run_job(config);
}

}  // namespace hora::cli
