// Which launcher started this process as a rank of which job: told from the environment that launchers leave to their
// ranks. Pure; base/ancestors.h reads what it is given.
//
// Launchers nest (mpirun in a Slurm allocation, torchrun in mpirun), and a rank inherits the variables of all of them.
// The innermost one is meant. Its variables do not stand in the environment of its own launching process, so of all
// launchers it is the one whose variables are the first to be gone, or others, on the way up the ancestors.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/environment.h"
#include "hora/status.hpp"

namespace hora {

struct Ancestor {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // since boot: with the pid it names one process
  // With which it was started; absent where it cannot be read, as that of another user's process.
  std::optional<Environment> environment;
};

struct Launch {
  std::string launcher;  // "mpirun of Open MPI"; empty: none that is known
  std::string evidence;  // "OMPI_COMM_WORLD_RANK=2, OMPI_COMM_WORLD_SIZE=4"
  // Variables of hora's own say who this is: set by `hora run`, or by a user. Nothing below is filled in then.
  bool hora = true;
  int rank = 0;
  int size = 1;
  std::optional<int> local_rank;  // among the ranks of this host
  std::optional<int> local_size;
  std::string job;       // names the job, on all hosts alike where its launcher says so much
  std::string host_job;  // names the ranks of the job that one launching process has started: no other job has it
  // Variables of an outer `hora run`, and what it told about another job.
  std::vector<std::string_view> overruled;
};

// `ancestors` from the parent upwards; without them, and where they do not decide, a fixed order. invalid_argument
// names the variable that is missing or no number.
Result<Launch> recognize_launcher(const Environment& environment, std::span<const Ancestor> ancestors);

// What a launcher must not leave to its ranks of the launchers that started it.
std::span<const std::string_view> foreign_launcher_variables();

// How many tasks Slurm's list, such as "2(x3),1", gives to a node; absent where it is no such list.
std::optional<int> tasks_of_node(std::string_view list, int node);

}  // namespace hora
