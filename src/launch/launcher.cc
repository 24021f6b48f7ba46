#include "launch/launcher.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>
#include <utility>

#include "base/entropy.h"
#include "base/log.h"
#include "base/socket_address.h"
#include "elastic/store/store_server.h"
#include "interfaces/system_clock.h"
#include "launch/oom_counter.h"
#include "launch/outcome.h"
#include "launch/output.h"
#include "launch/process.h"
#include "launch/watchdog.h"

namespace hora::launch {
namespace {

using std::chrono::milliseconds;

class Job {
 public:
  Job(const JobConfig& config, const Clock& clock, Watchdog watchdog, UniqueFd signals)
      : config_(config),
        clock_(clock),
        watchdog_(std::move(watchdog)),
        signals_(std::move(signals)),
        outcome_(config.ranks, config.min_ranks) {}

  int run();

 private:
  // How far the ranks have been pressed to end.
  enum class Pressure { none, failed, asked, killed };

  Status start();
  Status start_rank(int rank);
  Result<int> merged(Output& output, int rank, UniqueFd& writer) const;
  void wait_for_events();
  void on_signal();
  void on_rank_end(int rank);
  void press(TimePoint now);
  void signal_all(int signal);
  void flush();
  void say(std::string_view text) { errors_.say(fmt::format("hora run: {}", text)); }

  const JobConfig& config_;
  const Clock& clock_;
  const Log log_{LogLevel::error, "hora run"};
  Watchdog watchdog_;
  UniqueFd signals_;
  Output output_{STDOUT_FILENO};
  Output errors_{STDERR_FILENO};
  OomCounter oom_;
  const std::string job_ = "run-" + entropy_hex(6);
  const std::string secret_ = entropy_hex(16);
  std::unique_ptr<store::StoreServer> store_;
  std::vector<Process> ranks_;
  Outcome outcome_;
  Pressure pressure_ = Pressure::none;
  TimePoint press_at_ = TimePoint::max();
  int interrupted_by_ = 0;
};

Status Job::start() {
  auto store = store::StoreServer::start({"unix:@hora-store-" + entropy_hex(8), job_, secret_}, clock_, log_);
  if (!store.ok()) return store.status();
  store_ = std::move(*store);
  for (int rank = 0; rank < config_.ranks; ++rank) HORA_TRY(start_rank(rank));
  return {};
}

// The reading end goes to `output`; the writing end is the rank's, and `writer` keeps it open until the rank has it.
Result<int> Job::merged(Output& output, int rank, UniqueFd& writer) const {
  if (!config_.tags) return -1;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_error("pipe2", errno);
  writer.reset(ends[1]);
  UniqueFd reader(ends[0]);
  ::fcntl(reader.get(), F_SETFL, O_NONBLOCK);
  output.add(std::move(reader), fmt::format("[{}] ", rank));
  return writer.get();
}

Status Job::start_rank(int rank) {
  UniqueFd output_writer, error_writer;
  auto output = merged(output_, rank, output_writer);
  if (!output.ok()) return output.status();
  auto error = merged(errors_, rank, error_writer);
  if (!error.ok()) return error.status();
  ProcessSpec spec;
  spec.command = config_.command;
  spec.variables = {{"HORA_RANK", std::to_string(rank)},
                    {"HORA_SIZE", std::to_string(config_.ranks)},
                    {"HORA_LOCAL_RANK", std::to_string(rank)},
                    {"HORA_LOCAL_SIZE", std::to_string(config_.ranks)},
                    {"HORA_JOB", job_},
                    {"HORA_STORE", store_->address()},
                    {"HORA_SECRET", secret_},
                    {"HORA_MIN_SIZE", std::to_string(config_.min_ranks)},
                    {"HORA_KILL_SUSPECTS", "1"}};
  spec.output = *output;
  spec.error = *error;
  auto process = spawn(spec, watchdog_);
  if (!process.ok()) return process.status();
  ranks_.push_back(std::move(*process));
  return {};
}

int Job::run() {
  if (const Status status = start(); !status.ok()) {
    signal_all(SIGKILL);
    for (const Process& process : ranks_) reap(process, watchdog_);
    say(status.message());
    flush();
    return 126;
  }
  while (outcome_.running() > 0) {
    wait_for_events();
    press(clock_.now());
  }
  output_.close_sources();
  errors_.close_sources();
  if (interrupted_by_ == 0 && outcome_.status() != 0)
    say(fmt::format("the job failed: fewer than {} of {} ranks succeeded", config_.min_ranks, config_.ranks));
  flush();
  return interrupted_by_ != 0 ? 128 + interrupted_by_ : outcome_.status();
}

void Job::wait_for_events() {
  std::vector<pollfd> polled{{signals_.get(), POLLIN, 0}};
  for (int rank = 0; rank < config_.ranks; ++rank)
    polled.push_back({outcome_.running(rank) ? ranks_[static_cast<std::size_t>(rank)].pidfd.get() : -1, POLLIN, 0});
  const std::size_t first_output = polled.size();
  output_.append_polled(polled);
  errors_.append_polled(polled);
  int timeout = -1;
  if (press_at_ != TimePoint::max())
    timeout = static_cast<int>(
        std::clamp<std::int64_t>(std::chrono::ceil<milliseconds>(press_at_ - clock_.now()).count(), 0, 3'600'000));
  if (::poll(polled.data(), polled.size(), timeout) <= 0) return;
  // Output first: what a rank said before it ended stands before the news of its end.
  const std::size_t taken = output_.handle(&polled[first_output]);
  errors_.handle(&polled[first_output + taken]);
  if (polled[0].revents != 0) on_signal();
  for (int rank = 0; rank < config_.ranks; ++rank)
    if (polled[static_cast<std::size_t>(rank) + 1].revents != 0) on_rank_end(rank);
}

void Job::on_rank_end(int rank) {
  const Exit exit = reap(ranks_[static_cast<std::size_t>(rank)], watchdog_);
  outcome_.ended(rank, exit);
  if (exit.success()) return;
  const bool ours = pressure_ >= Pressure::asked && (exit.signal == SIGTERM || exit.signal == SIGKILL);
  if (!ours) {
    const bool out_of_memory = exit.signal == SIGKILL && oom_.take() > 0;
    say(fmt::format("rank {} {}{}", rank, describe(exit), out_of_memory ? ": the machine was out of memory" : ""));
  }
  if (outcome_.hopeless() && pressure_ == Pressure::none && outcome_.running() > 0) {
    pressure_ = Pressure::failed;
    press_at_ = clock_.now() + config_.grace;
  }
}

void Job::press(TimePoint now) {
  if (now < press_at_ || outcome_.running() == 0) return;
  if (pressure_ == Pressure::failed) {
    say(fmt::format("asking {} remaining ranks to end", outcome_.running()));
    pressure_ = Pressure::asked;
    press_at_ = now + config_.grace;
    signal_all(SIGTERM);
  } else {
    pressure_ = Pressure::killed;
    press_at_ = TimePoint::max();
    signal_all(SIGKILL);
  }
}

void Job::on_signal() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return;
  press_at_ = TimePoint::max();
  if (interrupted_by_ != 0) {
    pressure_ = Pressure::killed;
    signal_all(SIGKILL);
    return;
  }
  interrupted_by_ = static_cast<int>(info.ssi_signo);
  say("interrupted: asked the ranks to end; interrupt again to kill them");
  pressure_ = std::max(pressure_, Pressure::asked);
  signal_all(SIGTERM);
}

// Only groups whose leader is not reaped: their numbers are still theirs.
void Job::signal_all(int signal) {
  for (std::size_t rank = 0; rank < ranks_.size(); ++rank)
    if (outcome_.running(static_cast<int>(rank))) ::kill(-ranks_[rank].pid, signal);
}

// Writes what is left; a reader that does not read can still be interrupted.
void Job::flush() {
  while (!output_.empty() || !errors_.empty()) {
    std::vector<pollfd> polled{{signals_.get(), POLLIN, 0}};
    output_.append_polled(polled);
    errors_.append_polled(polled);
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    if (polled[0].revents != 0) return;
    const std::size_t taken = output_.handle(&polled[1]);
    errors_.handle(&polled[1 + taken]);
  }
}

int fail(const Status& status) {
  fmt::print(stderr, "hora run: {}\n", status.message());
  return 1;
}

}  // namespace

int run_job(const JobConfig& config) {
  if (const int status = check_command(config.command.at(0)); status != 0) {
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
