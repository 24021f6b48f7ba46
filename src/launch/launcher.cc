#include "launch/launcher.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "base/socket_address.h"
#include "interfaces/system_clock.h"
#include "launch/job.h"
#include "launch/local_address.h"
#include "launch/process.h"
#include "launch/watchdog.h"

namespace hora::launch {
namespace {

int fail(const Status& status) {
  fmt::print(stderr, "hora run: {}\n", status.message());
  return 1;
}

// Those that ask a job to end, but for those that its starter has ignored: nohup does, and a shell for what it starts
// in the background.
sigset_t block_signals() {
  sigset_t handled;
  ::sigemptyset(&handled);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction inherited {};
    if (::sigaction(signal, nullptr, &inherited) == 0 && inherited.sa_handler != SIG_IGN) ::sigaddset(&handled, signal);
  }
  ::sigprocmask(SIG_BLOCK, &handled, nullptr);
  return handled;
}

}  // namespace

int run_job(const JobConfig& config) {
  const bool here = config.hosts.empty() ||
                    std::ranges::any_of(config.hosts, [](const HostSlots& host) { return is_this_host(host.name); });
  if (const int status = here ? check_command(config.command.at(0)) : 0; status != 0) {
    fmt::print(stderr, "hora run: {}: {}\n", config.command[0], status == 127 ? "command not found" : "not a program");
    return status;
  }
  prepare_to_spawn();
  const sigset_t handled = block_signals();
  UniqueFd signals(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail(system_error("signalfd", errno));
  auto watchdog = Watchdog::start();
  if (!watchdog.ok()) return fail(watchdog.status());
  const SystemClock clock;
  return Job(config, clock, std::move(*watchdog), std::move(signals)).run();
}

}  // namespace hora::launch
