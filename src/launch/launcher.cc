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

}  // namespace

int run_job(const JobConfig& config) {
  const bool here = config.hosts.empty() ||
                    std::ranges::any_of(config.hosts, [](const HostSlots& host) { return is_this_host(host.name); });
  if (const int status = here ? check_command(config.command.at(0)) : 0; status != 0) {
    fmt::print(stderr, "hora run: {}: {}\n", config.command[0], status == 127 ? "command not found" : "not a program");
    return status;
  }
  sigset_t handled;
  ::sigemptyset(&handled);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&handled, signal);
  ::sigprocmask(SIG_BLOCK, &handled, nullptr);
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  ::sigaction(SIGPIPE, &ignore, nullptr);
  UniqueFd signals(::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return fail(system_error("signalfd", errno));
  auto watchdog = Watchdog::start();
  if (!watchdog.ok()) return fail(watchdog.status());
  const SystemClock clock;
  return Job(config, clock, std::move(*watchdog), std::move(signals)).run();
}

}  // namespace hora::launch
