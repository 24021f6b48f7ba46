// Ends the ranks when the launcher dies without a word (SIGKILL): a small process that holds a pipe whose other end is
// the launcher's, and kills the process groups it was told of once that end is closed.
//
// The death signal that each rank's first process has set reaches only that process; a shell's children need this.
#pragma once

#include <sys/types.h>

#include "base/unique_fd.h"
#include "hora/status.hpp"

namespace hora::launch {

class Watchdog {
 public:
  // Forks. Call it while the process has one thread.
  static Result<Watchdog> start();
  Watchdog(Watchdog&&) noexcept = default;
  Watchdog& operator=(Watchdog&&) = delete;
  // Lets it go, without a kill where every group was taken back.
  ~Watchdog();

  // Puts `group` under its care. Async-signal-safe: a child does it for itself, before it can fork.
  void guard(pid_t group) const noexcept;
  // Takes `group` back: before its leader is reaped, while the number cannot belong to anybody else.
  void release(pid_t group) const noexcept;

 private:
  Watchdog(UniqueFd pipe, pid_t pid) noexcept : pipe_(std::move(pipe)), pid_(pid) {}

  UniqueFd pipe_;
  pid_t pid_;
};

}  // namespace hora::launch
