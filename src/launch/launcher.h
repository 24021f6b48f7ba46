// `hora run` on one host: starts the ranks of a job, hosts their store, watches over them and tells how it went.
#pragma once

#include <string>
#include <vector>

#include "base/time.h"

namespace hora::launch {

struct JobConfig {
  std::vector<std::string> command;
  int ranks = 1;
  int min_ranks = 1;  // the job succeeds if so many ranks end with 0
  bool tags = true;   // "[rank] " before every line of output; otherwise output is untouched
  Duration grace =
      std::chrono::seconds(5);  // for ranks to end by themselves once the job has failed, and after SIGTERM
};

// Runs the job to its end and returns the exit status for the shell: 0, or that of the first rank that failed, 128 +
// signal if the user ended it, 126 or 127 if the command cannot be run.
// Takes over the signals and children of this process; call it from the main thread while there is no other.
int run_job(const JobConfig& config);

}  // namespace hora::launch
