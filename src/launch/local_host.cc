#include "launch/local_host.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/launcher.h"
#include "base/socket_address.h"

namespace hora::launch {

LocalHost::~LocalHost() {
  signal(SIGKILL);
  for (const Running& running : running_) reap(running.process, watchdog_);
}

// The writing end is the process's; `writer` keeps it open until the process has it.
Result<int> LocalHost::piped(int process, Stream stream, UniqueFd& writer) {
  if (!piped_) return -1;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe2", errno);
  writer.reset(ends[1]);
  UniqueFd reader(ends[0]);
  ::fcntl(reader.get(), F_SETFL, O_NONBLOCK);
  sources_.push_back({process, stream, std::move(reader)});
  return writer.get();
}

Status LocalHost::start(int process, const Variables& variables) {
  UniqueFd output_writer, error_writer;
  auto output = piped(process, Stream::output, output_writer);
  if (!output.ok()) return output.status();
  auto error = piped(process, Stream::error, error_writer);
  if (!error.ok()) return error.status();
  ProcessSpec spec;
  spec.command = command_;
  spec.variables = variables;
  // Each process is told what it is by its launcher alone.
  spec.removed = {"HORA_RANK", "HORA_SIZE", "HORA_JOIN"};
  for (const std::string_view name : foreign_launcher_variables()) spec.removed.emplace_back(name);
  // As torchrun does: as many pools of threads as CPUs, in as many ranks as CPUs, only wait for each other. A rank that
  // is alone on its host has nobody to wait for.
  if (std::ranges::find(variables, std::pair<std::string, std::string>("HORA_LOCAL_SIZE", "1")) == variables.end())
    spec.defaults = {{"OMP_NUM_THREADS", "1"}};
  spec.output = *output;
  spec.error = *error;
  auto started = spawn(spec, watchdog_);
  if (!started.ok()) return started.status();
  running_.push_back({process, std::move(*started)});
  return {};
}

// Only groups whose leader is not reaped: their numbers are still theirs.
void LocalHost::signal(int signal) {
  for (const Running& running : running_) ::kill(-running.process.pid, signal);
}

void LocalHost::append_polled(std::vector<pollfd>& polled, bool read_output) {
  // A negative descriptor is ignored by poll(2).
  for (const Source& source : sources_) polled.push_back({read_output ? source.fd.get() : -1, POLLIN, 0});
  for (const Running& running : running_) polled.push_back({running.process.pidfd.get(), POLLIN, 0});
}

std::size_t LocalHost::handle(const pollfd* polled) {
  const std::size_t sources = sources_.size(), processes = running_.size();
  for (std::size_t i = 0; i < sources; ++i)
    if (polled[i].revents != 0) read(sources_[i]);
  std::vector<Running> ended;
  for (std::size_t i = 0; i < processes; ++i)
    if (polled[sources + i].revents != 0) ended.push_back(std::move(running_[i]));
  std::erase_if(running_, [](const Running& running) { return !running.process.pidfd; });
  for (const Running& running : ended) end(running);
  std::erase_if(sources_, [](const Source& source) { return !source.fd; });
  return sources + processes;
}

void LocalHost::end(const Running& running) {
  const Exit exit = reap(running.process, watchdog_);
  for (Source& source : sources_)
    if (source.process == running.number) drain(source);
  events_.on_end(running.number, exit, exit.signal == SIGKILL && oom_.take() > 0);
}

void LocalHost::read(Source& source) {
  std::array<char, 65536> buffer;
  const ssize_t got = ::read(source.fd.get(), buffer.data(), buffer.size());
  if (got > 0)
    events_.on_output(source.process, source.stream, {buffer.data(), static_cast<std::size_t>(got)});
  else if (got == 0 || (errno != EAGAIN && errno != EINTR))
    source.fd.reset();
}

// No more than a pipe holds: who left the process's group may write on without end.
void LocalHost::drain(Source& source) {
  const int capacity = ::fcntl(source.fd.get(), F_GETPIPE_SZ);
  for (int left = capacity; left > 0 && source.fd; left -= 65536) {
    pollfd polled{source.fd.get(), POLLIN, 0};
    if (::poll(&polled, 1, 0) <= 0) return;
    read(source);
  }
}

void LocalHost::drain() {
  for (Source& source : sources_)
    if (source.fd) drain(source);
  sources_.clear();
}

}  // namespace hora::launch
