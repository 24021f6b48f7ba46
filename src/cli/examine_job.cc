#include <fmt/format.h>

#include <string>

#include "base/options_parser.h"
#include "cli/examinations.h"
#include "engine/outlook.h"

namespace hora::cli {

namespace {

std::string describe_store(const Options& options) {
  if (!options.store.empty()) return options.store;
  if (options.size == 1) return "none: a rank alone needs none";
  return fmt::format("hosted by rank 0; the ranks meet at {}", options.meeting);
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
  for (const std::string& warning : parsed.value().warnings)
    findings.miss(Need::optional, warning, "unset it, or spell it right");
}

}  // namespace hora::cli
