#include "launch/job.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/entropy.h"

namespace hora::launch {
namespace {

using std::chrono::milliseconds;

// A replacement that fails sooner than this failed at its start.
constexpr Duration kQuick = std::chrono::seconds(5);

}  // namespace

Job::Job(const JobConfig& config, const Clock& clock, Watchdog watchdog, UniqueFd signals)
    : config_(config),
      clock_(clock),
      watchdog_(std::move(watchdog)),
      signals_(std::move(signals)),
      output_(STDOUT_FILENO, config.tags),
      errors_(STDERR_FILENO, config.tags),
      job_("run-" + entropy_hex(6)),
      secret_(entropy_hex(16)),
      outcome_(config.limits),
      host_(config.command, config.tags, watchdog_, *this) {}

void Job::say(std::string_view text) {
  errors_.say(fmt::format("hora run: {}", text));
}

// Ranks change with every view; the number that a founder began with, and the tag of a replacement, do not.
std::string Job::name(int number) const {
  return number < config_.limits.ranks ? fmt::format("rank {}", number) : fmt::format("[{}]", number);
}

Status Job::start() {
  auto store = store::StoreServer::start({"unix:@hora-store-" + entropy_hex(8), job_, secret_}, clock_, log_);
  if (!store.ok()) return store.status();
  store_ = std::move(*store);
  deaths_ = std::make_unique<DeathNotices>(store_->address(), job_, secret_, clock_);
  for (int rank = 0; rank < config_.limits.ranks; ++rank) {
    members_.push_back({.slot = rank, .start_at = {}, .token = entropy_hex(8)});
    HORA_TRY(start_process(rank));
  }
  return {};
}

Status Job::start_process(int number) {
  Member& member = at(number);
  Variables variables{{"HORA_PROCESS", std::to_string(number)},
                      {"HORA_LOCAL_RANK", std::to_string(member.slot)},
                      {"HORA_LOCAL_SIZE", std::to_string(config_.limits.ranks)},
                      {"HORA_JOB", job_},
                      {"HORA_STORE", store_->address()},
                      {"HORA_SECRET", secret_},
                      {"HORA_LAUNCH_TOKEN", member.token},
                      {"HORA_MIN_SIZE", std::to_string(config_.limits.min_ranks)},
                      {"HORA_KILL_SUSPECTS", "1"}};
  if (member.replacement) {
    variables.emplace_back("HORA_JOIN", "1");
  } else {
    variables.emplace_back("HORA_RANK", std::to_string(number));
    variables.emplace_back("HORA_SIZE", std::to_string(config_.limits.ranks));
  }
  member.started = true;
  member.start_at = clock_.now();
  return host_.start(number, variables);
}

int Job::run() {
  if (const Status status = start(); !status.ok()) {
    signal_all(SIGKILL);
    say(status.message());
    flush();
    return 126;
  }
  while (!outcome_.over()) {
    wait_for_events();
    start_due(clock_.now());
    press(clock_.now());
  }
  host_.drain();
  output_.finish_all();
  errors_.finish_all();
  if (interrupted_by_ == 0 && outcome_.status() != 0)
    say(fmt::format("the job failed: fewer than {} of {} ranks succeeded", config_.limits.min_ranks,
                    config_.limits.ranks));
  flush();
  return interrupted_by_ != 0 ? 128 + interrupted_by_ : outcome_.status();
}

int Job::timeout_ms() const {
  TimePoint next = press_at_;
  for (const Member& member : members_)
    if (!member.started && outcome_.awaited(member.slot)) next = std::min(next, member.start_at);
  if (next == TimePoint::max()) return -1;
  return static_cast<int>(
      std::clamp<std::int64_t>(std::chrono::ceil<milliseconds>(next - clock_.now()).count(), 0, 3'600'000));
}

void Job::wait_for_events() {
  std::vector<pollfd> polled{{signals_.get(), POLLIN, 0}, output_.polled(), errors_.polled()};
  host_.append_polled(polled, !output_.full() && !errors_.full());
  if (::poll(polled.data(), polled.size(), timeout_ms()) <= 0) return;
  if (polled[1].revents != 0) output_.write();
  if (polled[2].revents != 0) errors_.write();
  if (polled[0].revents != 0) on_signal();
  host_.handle(&polled[3]);
}

void Job::on_output(int number, Stream stream, std::string_view bytes) {
  (stream == Stream::output ? output_ : errors_).feed(number, bytes);
}

void Job::on_end(int number, const Exit& exit, bool out_of_memory) {
  output_.finish(number);
  errors_.finish(number);
  if (const Status told = deaths_->tell(at(number).token, describe(exit)); !told.ok())
    say(fmt::format("the end of {} could not be told: {}", name(number), told.message()));
  outcome_.ended(at(number).slot, exit);
  if (exit.success()) return;
  const bool ours = pressure_ >= Pressure::asked && (exit.signal == SIGTERM || exit.signal == SIGKILL);
  if (!ours) {
    const std::string why = out_of_memory ? ": the machine was out of memory" : "";
    say(fmt::format("{} {}{}{}", name(number), describe(exit), why, replace(number)));
  }
  if (outcome_.hopeless() && pressure_ == Pressure::none && !outcome_.over()) {
    pressure_ = Pressure::failed;
    press_at_ = clock_.now() + config_.grace;
  }
}

// Announces a replacement of who ended, where there may be one, and says so.
std::string Job::replace(int number) {
  const int restarts = config_.limits.restarts;
  const Member dead = at(number);
  if (pressure_ != Pressure::none) return "";
  if (!outcome_.replaceable(dead.slot))
    return restarts > 0 && outcome_.restarts() == restarts ? fmt::format("; all {} restarts are used", restarts) : "";
  outcome_.await(dead.slot);
  const TimePoint now = clock_.now();
  Member next{.slot = dead.slot, .start_at = now, .token = entropy_hex(8), .replacement = true};
  if (dead.replacement && now - dead.start_at < kQuick) next.quick_failures = dead.quick_failures + 1;
  const Duration delay = replacement_delay(next.quick_failures);
  next.start_at += delay;
  members_.push_back(std::move(next));
  const std::string when = delay == Duration::zero()
                               ? ""
                               : fmt::format(" in {} ms", std::chrono::duration_cast<milliseconds>(delay).count());
  return fmt::format("; replaced by [{}]{} ({} of {} restarts)", members_.size() - 1, when, outcome_.restarts(),
                     restarts);
}

void Job::start_due(TimePoint now) {
  for (int number = config_.limits.ranks; number < static_cast<int>(members_.size()); ++number) {
    const Member& member = at(number);
    if (member.started || !outcome_.awaited(member.slot) || member.start_at > now) continue;
    if (const Status status = start_process(number); status.ok()) {
      outcome_.started(member.slot);
    } else {
      say(fmt::format("{} cannot be started: {}", name(number), status.message()));
      outcome_.give_up(member.slot);
    }
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
  outcome_.give_up_all();
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

void Job::signal_all(int signal) {
  host_.signal(signal);
}

// Writes what is left; a reader that does not read can still be interrupted.
void Job::flush() {
  while (!output_.empty() || !errors_.empty()) {
    pollfd polled[] = {{signals_.get(), POLLIN, 0}, output_.polled(), errors_.polled()};
    if (::poll(polled, 3, -1) < 0 && errno != EINTR) return;
    if (polled[0].revents != 0) return;
    if (polled[1].revents != 0) output_.write();
    if (polled[2].revents != 0) errors_.write();
  }
}

}  // namespace hora::launch
