#include "cli/kernel_features.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/unique_fd.h"

namespace hora::cli {

namespace {

// No waiters is an error of the arguments, where the call is known.
bool has_futex_waitv() {
  return ::syscall(SYS_futex_waitv, nullptr, 0, 0, nullptr, 0) != -1 || errno == EINVAL;
}

bool has_membarrier() {
  const long commands = ::syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  return commands > 0 && (commands & MEMBARRIER_CMD_GLOBAL_EXPEDITED) != 0;
}

bool has_sealed_memory() {
  const UniqueFd memory(::memfd_create("hora-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  return memory && ::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
}

bool has_pidfd() {
  const UniqueFd self(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  return static_cast<bool>(self);
}

}  // namespace

std::vector<KernelFeature> probe_kernel() {
  return {
      {"sealed memfd", has_sealed_memory(), true, "ranks of a host cannot share memory (needs Linux 3.17)"},
      {"pidfd", has_pidfd(), true, "deaths and suspects cannot be told apart safely (needs Linux 5.3)"},
      {"futex_waitv", has_futex_waitv(), false,
       "waiting for several ranks at once polls every millisecond (needs Linux 5.16)"},
      {"membarrier", has_membarrier(), false, "every publication in shared memory pays for a fence (needs Linux 4.16)"},
  };
}

}  // namespace hora::cli
