#include "launch/job.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/entropy.h"
#include "launch/local_address.h"

namespace hora::launch {
namespace {

using std::chrono::milliseconds;

// A replacement that fails sooner than this failed at its start.
constexpr Duration kQuick = std::chrono::seconds(5);

// The store is that of this process, so it answers at once.
constexpr Duration kStorePatience = std::chrono::seconds(1);

// Of a job that could not be started.
int exit_status_of(StatusCode code) {
  constexpr int kWrongUsage = 2, kNotRun = 126;
  if (code == StatusCode::invalid_argument) return kWrongUsage;
  return code == StatusCode::unsupported || code == StatusCode::peer_failed ? kNotRun : 1;
}

}  // namespace

Job::Job(const JobConfig& config, const Clock& clock, Watchdog watchdog, UniqueFd signals)
    : config_(config),
      clock_(clock),
      watchdog_(std::move(watchdog)),
      signals_(std::move(signals)),
      outputs_(config.tags),
      job_("run-" + entropy_hex(6)),
      secret_(entropy_hex(16)),
      outcome_(config.limits),
      hosts_(config, clock_, watchdog_, *this) {}

void Job::say(std::string_view text) {
  outputs_.say(fmt::format("hora run: {}", text));
}

// Ranks change with every view; the number that a founder began with, and the tag of a replacement, do not.
std::string Job::name(int number) const {
  return number < config_.limits.ranks ? fmt::format("rank {}", number) : fmt::format("[{}]", number);
}

// The store's address is one that all hosts reach: the local one needs no network.
Result<std::string> Job::store_address() const {
  if (!config_.store_address.empty()) return fmt::format("tcp:{}:0", config_.store_address);
  const auto remote = std::ranges::find_if(config_.hosts, [](const HostSlots& h) { return !is_this_host(h.name); });
  if (remote == config_.hosts.end()) return "unix:@hora-store-" + entropy_hex(8);
  auto own = address_towards(remote->name);
  if (!own.ok())
    return Status(
        StatusCode::peer_failed,
        fmt::format("{}; by which address do the hosts reach this one (--store-address)?", own.status().message()));
  return fmt::format("tcp:{}:0", *own);
}

Status Job::await_hosts() {
  while (!hosts_.all_ready()) {
    if (const auto loss = hosts_.first_loss()) return {StatusCode::peer_failed, *loss};
    if (interrupted_by_ != 0) return {StatusCode::shut_down, "interrupted"};
    wait_for_events();
  }
  return {};
}

Status Job::start_store() {
  auto address = store_address();
  if (!address.ok()) return address.status();
  auto store = store::StoreServer::start({*address, job_, secret_}, clock_, log_);
  if (!store.ok() && !config_.store_address.empty())
    return {StatusCode::invalid_argument,
            fmt::format("--store-address {}: {}", config_.store_address, store.status().message())};
  if (!store.ok()) return store.status();
  store_ = std::move(*store);
  store_client_ = std::make_unique<store::StoreClient>(
      store::ClientConfig{.address = store_->address(), .job = job_, .secret = secret_, .patience = kStorePatience},
      clock_);
  deaths_ = std::make_unique<DeathNotices>(*store_client_, job_);
  return {};
}

Status Job::start() {
  HORA_TRY(start_store());
  HORA_TRY(await_hosts());
  std::vector<int> places(static_cast<std::size_t>(config_.limits.ranks));
  if (!config_.hosts.empty()) {
    auto placed = place(config_.hosts, config_.limits.ranks);
    if (!placed.ok()) return placed.status();
    places = std::move(*placed);
  }
  for (int rank = 0; rank < config_.limits.ranks; ++rank)
    members_.push_back(
        {.slot = rank, .start_at = {}, .token = entropy_hex(8), .host = places[static_cast<std::size_t>(rank)]});
  auto master = choose_master(
      config_.hosts.empty() ? "localhost" : config_.hosts[static_cast<std::size_t>(places[0])].name, store_->address());
  if (!master.ok()) return master.status();
  master_ = std::move(*master);
  for (int rank = 0; rank < config_.limits.ranks; ++rank) HORA_TRY(start_process(rank, at(rank).host));
  return {};
}

int Job::founders_on(int host) const {
  return static_cast<int>(std::ranges::count_if(
      members_, [&](const Member& member) { return !member.replacement && member.host == host; }));
}

// That of the one it replaces, where it runs on the same host, else the first that nobody there has.
int Job::free_local_rank(const Member& member, int host) const {
  const auto taken = [&](int local_rank) {
    return std::ranges::any_of(members_, [&](const Member& other) {
      return other.running && other.host == host && other.local_rank == local_rank;
    });
  };
  if (member.host == host && member.local_rank >= 0 && !taken(member.local_rank)) return member.local_rank;
  int local_rank = 0;
  while (taken(local_rank)) ++local_rank;
  return local_rank;
}

Status Job::start_process(int number, int host) {
  Member& member = at(number);
  member.local_rank = free_local_rank(member, host);
  member.host = host;
  const std::string local_rank = std::to_string(member.local_rank);
  const std::string local_size = std::to_string(std::max(founders_on(host), member.local_rank + 1));
  Variables variables{{"HORA_PROCESS", std::to_string(number)},
                      {"HORA_LOCAL_RANK", local_rank},
                      {"HORA_LOCAL_SIZE", local_size},
                      {"HORA_JOB", job_},
                      {"HORA_STORE", store_->address()},
                      {"HORA_SECRET", secret_},
                      {"HORA_LAUNCH_TOKEN", member.token},
                      {"HORA_MIN_SIZE", std::to_string(config_.limits.min_ranks)},
                      {"HORA_KILL_SUSPECTS", "1"},
                      {"LOCAL_RANK", local_rank},
                      {"LOCAL_WORLD_SIZE", local_size},
                      {"MASTER_ADDR", master_.host},
                      {"MASTER_PORT", master_.port}};
  if (member.replacement) {
    variables.emplace_back("HORA_JOIN", "1");
  } else {
    for (const char* name : {"HORA_RANK", "RANK"}) variables.emplace_back(name, std::to_string(number));
    for (const char* name : {"HORA_SIZE", "WORLD_SIZE"})
      variables.emplace_back(name, std::to_string(config_.limits.ranks));
  }
  for (const auto& [name, value] : config_.passed) {
    const bool own = name == "HORA_RANK" || name == "HORA_SIZE" || name == "HORA_JOIN" ||
                     std::ranges::any_of(variables, [&](const auto& one) { return one.first == name; });
    if (!own) variables.emplace_back(name, value);
  }
  member.started = true;
  member.start_at = clock_.now();
  HORA_TRY(hosts_.start(host, number, variables));
  member.running = true;
  return {};
}

int Job::run() {
  if (const Status status = start(); !status.ok()) {
    hosts_.signal(SIGKILL);
    say(status.message());
    flush();
    return interrupted_by_ != 0 ? 128 + interrupted_by_ : exit_status_of(status.code());
  }
  while (!outcome_.over()) {
    wait_for_events();
    const TimePoint now = clock_.now();
    on_lost_hosts(now);
    start_due(now);
    press(now);
  }
  hosts_.drain();
  outputs_.finish_all();
  if (interrupted_by_ == 0 && outcome_.status() != 0)
    say(fmt::format("the job failed: fewer than {} of {} ranks succeeded", config_.limits.min_ranks,
                    config_.limits.ranks));
  flush();
  return interrupted_by_ != 0 ? 128 + interrupted_by_ : outcome_.status();
}

int Job::timeout_ms() const {
  TimePoint next = std::min(press_at_, hosts_.next_deadline());
  const TimePoint now = clock_.now();
  for (const Member& member : members_) {
    if (member.started || !outcome_.awaited(member.slot)) continue;
    // One that is due and not started has no host with room: it waits for an event, or for a host to come back.
    next = std::min(next, member.start_at > now ? member.start_at : hosts_.next_retry());
  }
  if (next == TimePoint::max()) return -1;
  return static_cast<int>(std::clamp<std::int64_t>(std::chrono::ceil<milliseconds>(next - now).count(), 0, 3'600'000));
}

void Job::wait_for_events() {
  const auto [output, error] = outputs_.polled();
  std::vector<pollfd> polled{{signals_.get(), POLLIN, 0}, output, error};
  hosts_.append_polled(polled, !outputs_.full());
  int found = 0;
  do {
    found = ::poll(polled.data(), polled.size(), timeout_ms());
  } while (found < 0 && errno == EINTR);
  outputs_.write(&polled[1]);
  if (polled[0].revents != 0) on_signal();
  if (found > 0) hosts_.handle(&polled[3]);
  hosts_.on_time(clock_.now());
}

void Job::on_output(int number, Stream stream, std::string_view bytes) {
  outputs_.feed(number, stream, bytes);
}

void Job::on_end(int number, const Exit& exit, bool out_of_memory) {
  if (const Status told = deaths_->tell(at(number).token, describe(exit)); !told.ok())
    say(fmt::format("the end of {} could not be told: {}", name(number), told.message()));
  ended(number, exit, asked_for(exit) && !out_of_memory, out_of_memory ? ": the machine was out of memory" : "");
}

void Job::on_not_started(int number, std::string_view why) {
  ended(number, {.code = 126}, false, fmt::format(": {}", why));
}

// Nobody tells the members: processes that cannot be seen any more may well live. Their silence will be noticed.
void Job::on_lost_hosts(TimePoint now) {
  for (const int host : hosts_.take_lost(now)) {
    if (std::ranges::any_of(members_, [&](const Member& one) { return one.running && one.host == host; }))
      say(fmt::format("host {} is lost: {}", hosts_.name(host), hosts_.why(host)));
    // By number: replacements are appended meanwhile.
    for (int number = 0, count = static_cast<int>(members_.size()); number < count; ++number)
      if (at(number).running && at(number).host == host)
        ended(number, {.lost = true}, pressure_ >= Pressure::asked, fmt::format(" {}", hosts_.name(host)));
  }
}

bool Job::asked_for(const Exit& exit) const {
  return (exit.signal == SIGTERM && pressure_ >= Pressure::asked) ||
         (exit.signal == SIGKILL && pressure_ == Pressure::killed);
}

void Job::ended(int number, const Exit& exit, bool asked, std::string_view more) {
  Member& member = at(number);
  member.running = false;
  hosts_.left(member.host);
  outputs_.finish(number);
  outcome_.ended(member.slot, exit, asked);
  if (exit.success()) return;
  if (!asked || exit.lost) say(fmt::format("{} {}{}{}", name(number), describe(exit), more, replace(number)));
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
  Member next{.slot = dead.slot,
              .start_at = now,
              .token = entropy_hex(8),
              .host = dead.host,
              .local_rank = dead.local_rank,
              .replacement = true};
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
    const Member member = at(number);  // a copy: replacements are appended
    if (member.started || !outcome_.awaited(member.slot) || member.start_at > now) continue;
    const int host = hosts_.find_room(member.host);
    if (host < 0) {
      if (!std::exchange(at(number).waits, true)) say(fmt::format("{} waits for a host with room", name(number)));
      hosts_.retry(now);
      continue;
    }
    outcome_.started(member.slot);
    if (const Status status = start_process(number, host); !status.ok()) on_not_started(number, status.message());
  }
}

void Job::press(TimePoint now) {
  if (now < press_at_ || outcome_.running() == 0) return;
  if (pressure_ == Pressure::failed) {
    say(fmt::format("asking {} remaining ranks to end", outcome_.running()));
    pressure_ = Pressure::asked;
    press_at_ = now + config_.grace;
    hosts_.signal(SIGTERM);
  } else {
    pressure_ = Pressure::killed;
    press_at_ = TimePoint::max();
    hosts_.signal(SIGKILL);
  }
}

void Job::on_signal() {
  signalfd_siginfo info;
  if (::read(signals_.get(), &info, sizeof info) != sizeof info) return;
  outcome_.give_up_all();
  const int signal = static_cast<int>(info.ssi_signo);
  if (interrupted_by_ != 0 && signal == SIGINT) {
    press_at_ = TimePoint::max();
    pressure_ = Pressure::killed;
    hosts_.signal(SIGKILL);
    return;
  }
  if (interrupted_by_ != 0) {
    // A terminal that goes says so twice; that is not impatience. After a Ctrl-C it sets the time that was left open.
    if (pressure_ != Pressure::killed) press_at_ = std::min(press_at_, clock_.now() + config_.grace);
    return;
  }
  interrupted_by_ = signal;
  // Who pressed Ctrl-C can do so again, and may have time; from a scheduler no second signal comes.
  const bool in_time = interrupted_by_ != SIGINT || pressure_ != Pressure::none;
  if (pressure_ < Pressure::asked) press_at_ = in_time ? clock_.now() + config_.grace : TimePoint::max();
  say(fmt::format("interrupted: asked the ranks to end; {}interrupt again to kill them",
                  in_time ? "those that have not are killed after --grace; " : ""));
  pressure_ = std::max(pressure_, Pressure::asked);
  hosts_.signal(SIGTERM);
}

// Writes what is left; a reader that does not read can still be interrupted.
void Job::flush() {
  while (!outputs_.empty()) {
    const auto [output, error] = outputs_.polled();
    pollfd polled[] = {{signals_.get(), POLLIN, 0}, output, error};
    if (::poll(polled, 3, -1) < 0 && errno != EINTR) return;
    if (polled[0].revents != 0) return;
    outputs_.write(&polled[1]);
  }
}

}  // namespace hora::launch
