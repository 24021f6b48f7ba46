#include "launch/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/environment.h"
#include "base/socket_address.h"

namespace hora::launch {
namespace {

std::vector<std::string> child_environment(const ProcessSpec& spec) {
  Environment::Values values = Environment::of_process().values();
  for (const auto& name : spec.removed) values.erase(std::string(name));
  for (const auto& [name, value] : spec.variables) values.insert_or_assign(name, value);
  for (const auto& [name, value] : spec.defaults) values.emplace(name, value);
  std::vector<std::string> entries;
  for (const auto& [name, value] : values) entries.push_back(name + '=' + value);
  return entries;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) result.push_back(string.data());
  result.push_back(nullptr);
  return result;
}

void set_action(int signal, sighandler_t action) noexcept {
  struct sigaction set {};
  set.sa_handler = action;
  ::sigaction(signal, &set, nullptr);
}

// Everything between fork and exec. Only async-signal-safe calls: another thread may have held any lock.
struct Child {
  char* const* arguments;
  char* const* environment;
  int output;
  int error;
  int input;
  int report;  // takes errno when the command cannot be run
  pid_t parent;
  const Watchdog& watchdog;

  [[noreturn]] void run() const noexcept {
    ::setpgid(0, 0);
    watchdog.guard(::getpid());
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(128 + SIGKILL);  // it died before the line above
    ::dup2(input, STDIN_FILENO);
    if (output >= 0) ::dup2(output, STDOUT_FILENO);
    if (error >= 0) ::dup2(error, STDERR_FILENO);
    set_action(SIGPIPE, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execvpe(arguments[0], arguments, environment);
    const int why = errno;
    [[maybe_unused]] const auto bytes = ::write(report, &why, sizeof why);
    ::_exit(127);
  }
};

bool is_program(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && ::access(path.c_str(), X_OK) == 0;
}

std::string search_path() {
  return std::string(Environment::of_process().find("PATH").value_or("/bin:/usr/bin"));
}

}  // namespace

void prepare_to_spawn() {
  set_action(SIGPIPE, SIG_IGN);
  set_action(SIGCHLD, SIG_DFL);  // where it is ignored, no child can be waited for
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == files.rlim_max) return;
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
}

Result<Process> spawn(const ProcessSpec& spec, const Watchdog& watchdog) {
  std::vector<std::string> command = spec.command;
  std::vector<std::string> environment = child_environment(spec);
  const std::vector<char*> arguments = pointers(command);
  const std::vector<char*> variables = pointers(environment);
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!null) return system_error("/dev/null", errno);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe2", errno);
  const UniqueFd report(ends[0]);
  UniqueFd told(ends[1]);
  const Child child{
      arguments.data(), variables.data(), spec.output, spec.error, spec.input < 0 ? null.get() : spec.input,
      told.get(),       ::getpid(),       watchdog};
  Process process;
  process.pid = ::fork();
  if (process.pid < 0) return system_error("fork", errno);
  if (process.pid == 0) child.run();
  ::setpgid(process.pid, process.pid);  // as the child does, so that it holds for whoever comes first
  told.reset();
  int why = 0;
  if (::read(report.get(), &why, sizeof why) == sizeof why) {
    reap(process, watchdog);
    return Status(StatusCode::unsupported, fmt::format("cannot run {}: {}", command[0], ::strerror(why)));
  }
  process.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, process.pid, 0)));
  if (!process.pidfd) {
    const int error = errno;
    ::kill(-process.pid, SIGKILL);
    reap(process, watchdog);
    return system_error("pidfd_open", error);
  }
  return process;
}

Exit reap(const Process& process, const Watchdog& watchdog) {
  // The unreaped leader keeps the number of the group from being given to anybody else.
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(process.pid), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  ::kill(-process.pid, SIGKILL);
  watchdog.release(process.pid);
  int status = 0;
  pid_t reaped = -1;
  do {
    reaped = ::waitpid(process.pid, &status, 0);
  } while (reaped < 0 && errno == EINTR);
  if (reaped != process.pid) return {.lost = true};
  if (WIFSIGNALED(status)) return {0, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

int check_command(const std::string& name) {
  struct stat info {};
  if (name.find('/') != std::string::npos) {
    if (is_program(name)) return 0;
    return ::stat(name.c_str(), &info) == 0 ? 126 : 127;
  }
  std::string path = search_path();
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    const std::string folder = end == begin ? "." : path.substr(begin, end - begin);
    if (is_program(folder + '/' + name)) return 0;
    begin = end + 1;
  }
  return 127;
}

}  // namespace hora::launch
