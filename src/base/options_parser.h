// Turns a snapshot of the environment into Options. Pure: reads nothing but its argument.
#pragma once

#include <string>
#include <vector>

#include "base/environment.h"
#include "base/launcher.h"
#include "hora/options.hpp"

namespace hora {

struct ParsedOptions {
  Options options;
  Launch launch;
  std::vector<std::string> warnings;  // names that nothing reads, most likely misspelt
};

// invalid_argument names the variable, its value (never that of HORA_SECRET) and what is allowed; unsupported names a
// variable that this build cannot honour. `user` tells the meetings of several users' ranks from each other.
Result<ParsedOptions> parse_options(const Environment& environment, std::span<const Ancestor> ancestors = {},
                                    uid_t user = 0);
// With the environment, ancestors and user of this process.
Result<ParsedOptions> parse_options_of_process();

// Whether a job can be begun with what a program has set, as parse_options() checks what the environment says.
Status check_options(const Options& options);

// The name of a job becomes part of socket names, whose length is limited.
Status check_job_name(const std::string& job);

}  // namespace hora
