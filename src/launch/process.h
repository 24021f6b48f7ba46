// Starts one rank: a process group of its own that ends with the launcher, and what its starter needs for that.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "launch/outcome.h"
#include "launch/watchdog.h"

namespace hora::launch {

struct ProcessSpec {
  std::vector<std::string> command;                            // not empty
  std::vector<std::pair<std::string, std::string>> variables;  // over the environment of this process
  std::vector<std::pair<std::string, std::string>> defaults;   // where neither has the variable
  std::vector<std::string> removed;                            // of that environment, where not in `variables`
  int input = -1;                                              // its standard input; -1: /dev/null
  int output = -1;                                             // its standard output; -1: ours
  int error = -1;                                              // its standard error; -1: ours
};

struct Process {
  pid_t pid = 0;   // also the number of its group
  UniqueFd pidfd;  // readable once it has ended
};

// Makes this process one that starts others, as launcher and agent are: it hears how its children end whatever it has
// inherited, is not ended by a pipe that nobody reads, and takes as many open files as it may, its children as well.
void prepare_to_spawn();

// It reads nothing by default: a process group in the background must not read from the terminal. Call it from the
// thread that lives as long as the launcher: the process is killed when that thread ends. StatusCode::unsupported: the
// command cannot be run.
Result<Process> spawn(const ProcessSpec& spec, const Watchdog& watchdog);

// Kills what is left of the group, then reaps its leader. Precondition: the leader has ended, or is about to. It is
// lost where nobody can tell how it ended.
Exit reap(const Process& process, const Watchdog& watchdog);

// 0, or what a shell returns for a command that it cannot run: 127 if there is none of that name, 126 if it is no
// program.
int check_command(const std::string& name);

}  // namespace hora::launch
