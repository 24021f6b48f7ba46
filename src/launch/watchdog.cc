#include "launch/watchdog.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <set>

#include "base/socket_address.h"

namespace hora::launch {
namespace {

void write_word(int pipe, pid_t word) noexcept {
  // Shorter than PIPE_BUF, so never torn; the reader only reads, so there is room.
  [[maybe_unused]] const auto bytes = ::write(pipe, &word, sizeof word);
}

// The watchdog's whole life. A positive word guards a group, a negative one releases it.
[[noreturn]] void watch(int pipe) {
  // Out of the terminal's and the launcher's groups: what ends the launcher must not end its watchdog.
  ::setsid();
  ::prctl(PR_SET_NAME, "hora-watchdog");
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_BLOCK, &all, nullptr);
  [[maybe_unused]] const int moved = ::chdir("/");
  if (pipe != 0) ::dup2(pipe, 0);
  ::close_range(1, ~0U, 0);
  std::set<pid_t> groups;
  pid_t word = 0;
  for (;;) {
    const ssize_t bytes = ::read(0, &word, sizeof word);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes != sizeof word) break;
    if (word > 0)
      groups.insert(word);
    else
      groups.erase(-word);
  }
  for (const pid_t group : groups) ::kill(-group, SIGKILL);
  ::_exit(0);
}

}  // namespace

Result<Watchdog> Watchdog::start() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe2", errno);
  UniqueFd in(ends[0]), out(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return system_error("fork", errno);
  if (pid == 0) {
    out.reset();
    watch(in.get());
  }
  return Watchdog(std::move(out), pid);
}

Watchdog::~Watchdog() {
  if (!pipe_) return;
  pipe_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void Watchdog::guard(pid_t group) const noexcept {
  write_word(pipe_.get(), group);
}

void Watchdog::release(pid_t group) const noexcept {
  write_word(pipe_.get(), -group);
}

}  // namespace hora::launch
