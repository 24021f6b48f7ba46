// Waiting for words where a filter of system calls refuses futex_waitv.
#include "base/futex.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <cstddef>
#include <cstdio>

namespace hora {
namespace {

constexpr std::uint32_t kFutexWaitv = 449;

bool refuse_futex_waitv() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kFutexWaitv, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

long sleeps_of_this_process() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nvcsw;
}

TEST_CASE("waiting for words sleeps also where a container's filter refuses futex_waitv") {
  enum Outcome : int { slept, returned_at_once, no_filter };
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (!refuse_futex_waitv()) ::_exit(no_filter);
    std::atomic<std::uint32_t> first{0}, second{0};
    const long before = sleeps_of_this_process();
    FutexWaitList words;
    words.add(first, 0, FutexScope::process);
    words.add(second, 0, FutexScope::process);
    words.wait(std::chrono::seconds(1));
    ::_exit(sleeps_of_this_process() > before ? slept : returned_at_once);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == no_filter) {
    std::printf("SKIPPED: no filter of system calls can be installed here\n");
    return;
  }
  CHECK(WEXITSTATUS(status) == slept);
}

}  // namespace
}  // namespace hora
