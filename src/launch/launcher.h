// `hora run` on one host: starts the ranks of a job, hosts their store, replaces who dies, and tells how it went.
#pragma once

#include <string>
#include <vector>

#include "base/time.h"
#include "launch/outcome.h"

namespace hora::launch {

struct JobConfig {
  std::vector<std::string> command;
  Outcome::Limits limits;
  bool tags = true;  // "[process] " before every line of output; otherwise output is untouched
  Duration grace =
      std::chrono::seconds(5);  // for ranks to end by themselves once the job has failed, and after SIGTERM
};

// Runs the job to its end and returns the exit status for the shell: 0, or that of the first rank that failed and was
// not replaced, 128 + signal if the user ended it, 126 or 127 if the command cannot be run.
// Takes over the signals and children of this process; call it from the main thread while there is no other.
int run_job(const JobConfig& config);

}  // namespace hora::launch
