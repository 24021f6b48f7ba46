// `hora run`: starts the ranks of a job on its hosts, hosts their store, replaces who dies, and tells how it went.
#pragma once

#include <string>
#include <vector>

#include "base/time.h"
#include "launch/host.h"
#include "launch/host_list.h"
#include "launch/outcome.h"

namespace hora::launch {

struct JobConfig {
  std::vector<std::string> command;
  Outcome::Limits limits;
  std::vector<HostSlots> hosts;    // with slots for all founding ranks; empty: this host
  std::vector<std::string> shell;  // the remote shell: its words, to which a host's name and a command are added
  std::string store_address;       // where the store listens for other hosts; empty: towards the first of them
  Duration host_silence = std::chrono::seconds(15);  // without a word, after which a host is lost, at both ends
  Variables passed;  // over the environment of every process, under what the launcher sets itself
  bool tags = true;  // "[process] " before every line of output; otherwise output is untouched
  Duration grace =
      std::chrono::seconds(5);  // for ranks to end by themselves once the job has failed, and after SIGTERM
};

// Runs the job to its end and returns the exit status for the shell: 0, or that of the first rank that failed and was
// not replaced, 128 + signal if the user ended it, 126 or 127 if the command cannot be run, 2 for an address of the
// store that cannot be used, 1 if the launcher itself cannot run.
// Takes over the signals and children of this process; call it from the main thread while there is no other.
int run_job(const JobConfig& config);

}  // namespace hora::launch
