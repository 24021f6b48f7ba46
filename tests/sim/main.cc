// hora_sim: runs schedules of the elastic job, one for each seed, and checks the laws after every event.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <set>
#include <string>
#include <string_view>

#include "sim/cluster.h"

namespace {

using hora::sim::Cluster;
using hora::sim::Summary;

struct Arguments {
  std::uint64_t seeds = 200;
  std::uint64_t first = 1;
  bool verbose = false;
  std::string regressions;  // file of seeds that failed once
};

struct Totals {
  std::set<std::uint64_t> traces;
  std::set<std::string> transitions;
  std::size_t runs = 0;
  std::size_t views = 0;
  std::size_t survived = 0;
  std::size_t resumed = 0;
  std::size_t broken = 0;
  std::size_t fenced_without_quorum = 0;
  std::size_t names_executed = 0;
  std::size_t names_rejected = 0;
  std::size_t joined = 0;
  std::size_t joined_late = 0;
  std::size_t left_out = 0;
  std::size_t died_undecided = 0;
  std::size_t died_uninstalled = 0;
};

bool parse(int count, char** values, Arguments& arguments) {
  for (int i = 1; i < count; ++i) {
    const std::string_view name = values[i];
    if (name == "--verbose") {
      arguments.verbose = true;
    } else if (i + 1 < count && name == "--seeds") {
      arguments.seeds = std::strtoull(values[++i], nullptr, 10);
    } else if (i + 1 < count && name == "--first") {
      arguments.first = std::strtoull(values[++i], nullptr, 10);
    } else if (i + 1 < count && name == "--regressions") {
      arguments.regressions = values[++i];
    } else {
      return false;
    }
  }
  return true;
}

bool run_seed(std::uint64_t seed, bool verbose, Totals& totals) {
  const Summary summary = Cluster(seed, verbose, &totals.transitions).run();
  ++totals.runs;
  totals.traces.insert(summary.trace_hash);
  totals.views += summary.views;
  totals.survived += summary.survivors > 0 ? 1 : 0;
  totals.resumed += summary.resumed;
  totals.broken += summary.broken;
  totals.fenced_without_quorum += summary.fenced_without_quorum;
  totals.names_executed += summary.names_executed;
  totals.names_rejected += summary.names_rejected;
  totals.joined += summary.joined;
  totals.joined_late += summary.joined_late;
  totals.left_out += summary.left_out;
  totals.died_undecided += summary.died_undecided;
  totals.died_uninstalled += summary.died_uninstalled;
  if (summary.violation.empty()) return true;
  std::printf("seed %llu failed at %s\nreplay: hora_sim --seeds 1 --first %llu --verbose\n",
              static_cast<unsigned long long>(seed), summary.violation.c_str(), static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  return false;
}

bool repeats(std::uint64_t seed) {
  const std::uint64_t once = Cluster(seed, false, nullptr).run().trace_hash;
  const std::uint64_t again = Cluster(seed, false, nullptr).run().trace_hash;
  if (once != again) std::printf("seed %llu gives two different traces\n", static_cast<unsigned long long>(seed));
  return once == again;
}

}  // namespace

int main(int count, char** values) {
  Arguments arguments;
  if (!parse(count, values, arguments)) {
    std::fprintf(stderr, "usage: hora_sim [--seeds N] [--first S] [--regressions FILE] [--verbose]\n");
    return 2;
  }
  Totals totals;
  std::size_t failures = 0;
  if (!arguments.regressions.empty()) {
    std::ifstream file(arguments.regressions);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", arguments.regressions.c_str());
      return 2;
    }
    std::string line;
    while (std::getline(file, line))
      if (!line.empty() && line[0] != '#')
        failures += run_seed(std::strtoull(line.c_str(), nullptr, 10), arguments.verbose, totals) ? 0 : 1;
  }
  for (std::uint64_t i = 0; i < arguments.seeds; ++i)
    failures += run_seed(arguments.first + i, arguments.verbose, totals) ? 0 : 1;
  if (!repeats(arguments.first)) ++failures;
  std::printf(
      "%zu schedules, %zu failed; %zu distinct traces, %zu transitions covered, %zu views, %zu schedules with "
      "survivors, %zu operations resumed, %zu broken, %zu nodes fenced without a quorum\n"
      "%zu names executed, %zu rejected; %zu newcomers joined, %zu after the word of it was lost on them; %zu views "
      "left one out; %zu died before a view "
      "had them, %zu before they heard of it\n",
      totals.runs, failures, totals.traces.size(), totals.transitions.size(), totals.views, totals.survived,
      totals.resumed, totals.broken, totals.fenced_without_quorum, totals.names_executed, totals.names_rejected,
      totals.joined, totals.joined_late, totals.left_out, totals.died_undecided, totals.died_uninstalled);
  return failures == 0 ? 0 : 1;
}
