#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <string>

#include "base/options_parser.h"
#include "cli/examinations.h"
#include "engine/outlook.h"
#include "hora/types.hpp"

namespace hora::cli {

namespace {

std::string describe_store(const Options& options) {
  if (!options.store.empty()) return options.store;
  if (options.size == 1) return "none: a rank alone needs none";
  return fmt::format("hosted by rank 0; the ranks meet at {}", options.meeting);
}

// How large a job this process can be a rank of, as far as the limit on open files goes.
void examine_files(const Options& options, int files_per_peer, Findings& findings) {
  constexpr rlim_t kOwnFiles = 64;  // standard streams, libraries, the store, what waits and wakes
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  const rlim_t peers = (files.rlim_cur - std::min(files.rlim_cur, kOwnFiles)) / static_cast<rlim_t>(files_per_peer);
  const int most = static_cast<int>(std::min<rlim_t>(peers + 1, kRanksMost));
  findings.add("most ranks",
               fmt::format("{}, by the limit on open files ({} for each other rank)", most, files_per_peer));
  if (options.size > most)
    findings.miss(Need::optional, fmt::format("open files for a job of {} ranks", options.size),
                  "ulimit -n, or start it by hora run, which takes as many as it may");
}

}  // namespace

void examine_job(Findings& findings) {
  const auto parsed = parse_options_of_process();
  if (!parsed.ok()) {
    findings.add("environment", "unusable");
    findings.miss(Need::required, parsed.status().to_string(), "set the variable right, or unset it");
    return;
  }
  const Options& options = parsed.value().options;
  findings.add("launcher", options.launcher.empty() ? "none: a job of one rank" : options.launcher);
  const std::string local =
      options.local_size ? fmt::format(" ({} of {} on this host)", options.local_rank.value_or(0), *options.local_size)
                         : "";
  findings.add("environment", options.join ? fmt::format("newcomer to job '{}'", options.job)
                                           : fmt::format("rank {} of {}{} of job '{}'", options.rank, options.size,
                                                         local, options.job));
  findings.add("store", describe_store(options));
  const engine::Outlook outlook = engine::describe_outlook(options);
  findings.add("transport", outlook.transport);
  findings.add("schedule", outlook.schedule);
  examine_files(options, outlook.files_per_peer, findings);
  for (const std::string& warning : parsed.value().warnings)
    findings.miss(Need::optional, warning, "unset it, or spell it right");
}

}  // namespace hora::cli
