// The tool `hora`: one program with sub-commands.
#include <fmt/format.h>

#include <string_view>

#include "base/version.h"
#include "cli/commands.h"
#include "launch/agent.h"
#include "perf/command.h"

namespace {

constexpr std::string_view kUsage =
    "usage: hora COMMAND [OPTIONS]\n"
    "\n"
    "  run -np N CMD...     start the ranks of a job, host its store and watch over them\n"
    "  perf OP [-np N]      time a collective operation: allreduce, broadcast, allgather, barrier\n"
    "  doctor               tell what hora can use of this machine, and what is missing\n"
    "\n"
    "  --help, --version    `hora COMMAND --help` tells the options of a command\n";

}  // namespace

int main(int argc, char** argv) {
  const std::string_view command = argc > 1 ? argv[1] : "";
  if (command == "run") return hora::cli::run_command(argc - 1, argv + 1);
  if (command == "agent") return hora::launch::run_agent();  // for `hora run` on another host, not for people
  if (command == "perf") return hora::perf::perf_command(argc - 1, argv + 1);
  if (command == "doctor") return hora::cli::doctor_command(argc - 1, argv + 1);
  if (command == "--version" || command == "version") {
    fmt::print("hora {}\n", hora::version());
    return 0;
  }
  if (command == "--help" || command == "-h" || command == "help") {
    fmt::print("{}", kUsage);
    return 0;
  }
  if (!command.empty()) fmt::print(stderr, "hora: '{}' is not a command\n", command);
  fmt::print(stderr, "{}", kUsage);
  return 2;
}
