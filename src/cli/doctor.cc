// hora doctor: one screen about this machine, this build and this process as a rank.
#include <fmt/format.h>

#include <string_view>

#include "base/failpoint.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/examinations.h"
#include "cli/findings.h"

namespace hora::cli {

namespace {

constexpr std::string_view kUsage =
    "usage: hora doctor [--json]\n"
    "Tells what hora can use of this machine, which launcher it recognises, what a job would use and what is missing.\n"
    "Start it by a launcher, as in `mpirun -np 1 hora doctor`, to see what its ranks see.\n";

}  // namespace

int doctor_command(int argc, char** argv) {
  const std::string_view argument = argc > 1 ? argv[1] : "";
  const bool help = argument == "--help" || argument == "-h";
  const bool json = argument == "--json";
  if (argc > 2 || help || (argc > 1 && !json)) {
    fmt::print(help ? stdout : stderr, "{}", kUsage);
    return help ? 0 : 2;
  }
  Findings findings;
  findings.add("hora", fmt::format("{}{}", version(), failpoint::kCompiledIn ? ", with failpoints" : ""));
  examine_machine(findings);
  examine_libraries(findings);
  examine_job(findings);
  fmt::print("{}", json ? findings.json() : findings.text());
  return findings.able() ? 0 : 1;
}

}  // namespace hora::cli
