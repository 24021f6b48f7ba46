#include "launch/hosts.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "launch/local_address.h"
#include "launch/local_host.h"
#include "launch/remote_host.h"

namespace hora::launch {

Hosts::Hosts(const JobConfig& config, const Clock& clock, const Watchdog& watchdog, HostEvents& events)
    : config_(config), clock_(clock), watchdog_(watchdog), events_(events) {
  for (const HostSlots& host : config.hosts) entries_.push_back({.name = host.name, .slots = host.slots});
  if (entries_.empty()) entries_.push_back({.name = "localhost", .slots = std::numeric_limits<int>::max()});
  for (Entry& entry : entries_) entry.host = connect(entry.name);
}

std::unique_ptr<Host> Hosts::connect(const std::string& name) {
  if (is_this_host(name)) return std::make_unique<LocalHost>(config_.command, config_.tags, watchdog_, events_);
  std::vector<std::string> shell = config_.shell;
  shell.push_back(name);
  return std::make_unique<RemoteHost>(std::move(shell), config_.command, config_.host_silence, clock_, watchdog_,
                                      events_);
}

bool Hosts::all_ready() const {
  return std::ranges::all_of(entries_, [](const Entry& entry) { return entry.host->state() == Host::State::ready; });
}

std::optional<std::string> Hosts::first_loss() const {
  for (const Entry& entry : entries_)
    if (entry.host->state() == Host::State::lost) return fmt::format("host {}: {}", entry.name, entry.host->why());
  return std::nullopt;
}

int Hosts::find_room(int preferred) const {
  const auto has_room = [](const Entry& entry) {
    return entry.host->state() == Host::State::ready && entry.used < entry.slots;
  };
  if (preferred >= 0 && has_room(at(preferred))) return preferred;
  const auto found = std::ranges::find_if(entries_, has_room);
  return found == entries_.end() ? -1 : static_cast<int>(found - entries_.begin());
}

Status Hosts::start(int host, int process, const Variables& variables) {
  ++at(host).used;
  return at(host).host->start(process, variables);
}

void Hosts::signal(int signal) {
  for (Entry& entry : entries_) entry.host->signal(signal);
}

void Hosts::append_polled(std::vector<pollfd>& polled, bool read_output) {
  for (Entry& entry : entries_) entry.host->append_polled(polled, read_output);
}

void Hosts::handle(const pollfd* polled) {
  for (Entry& entry : entries_) polled += entry.host->handle(polled);
}

TimePoint Hosts::next_deadline() const {
  TimePoint next = TimePoint::max();
  for (const Entry& entry : entries_) next = std::min(next, entry.host->next_deadline());
  return next;
}

void Hosts::on_time(TimePoint now) {
  for (Entry& entry : entries_) entry.host->on_time(now);
}

void Hosts::drain() {
  for (Entry& entry : entries_) entry.host->drain();
}

std::vector<int> Hosts::take_lost(TimePoint now) {
  std::vector<int> lost;
  for (std::size_t host = 0; host < entries_.size(); ++host) {
    Entry& entry = entries_[host];
    if (entry.host->state() == Host::State::ready) entry.failures = 0;
    if (entry.host->state() != Host::State::lost || entry.handled) continue;
    entry.handled = true;
    entry.retry_at = now + replacement_delay(++entry.failures);
    lost.push_back(static_cast<int>(host));
  }
  return lost;
}

TimePoint Hosts::next_retry() const {
  TimePoint next = TimePoint::max();
  for (const Entry& entry : entries_) next = std::min(next, entry.retry_at);
  return next;
}

void Hosts::retry(TimePoint now) {
  for (Entry& entry : entries_) {
    if (entry.retry_at > now) continue;
    entry.host = connect(entry.name);
    entry.handled = false;
    entry.retry_at = TimePoint::max();
  }
}

}  // namespace hora::launch
