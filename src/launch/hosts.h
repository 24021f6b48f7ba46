// The hosts of a job: connects to them, knows where there is room, and tries again to reach those that were lost.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"
#include "interfaces/clock.h"
#include "launch/host.h"
#include "launch/launcher.h"
#include "launch/watchdog.h"

namespace hora::launch {

class Hosts {
 public:
  // Starts to connect to all of them; without a list, this host takes everything. All arguments outlive it.
  Hosts(const JobConfig& config, const Clock& clock, const Watchdog& watchdog, HostEvents& events);

  [[nodiscard]] bool all_ready() const;
  // Why the first of them that is lost is.
  [[nodiscard]] std::optional<std::string> first_loss() const;
  [[nodiscard]] const std::string& name(int host) const { return at(host).name; }
  [[nodiscard]] std::string why(int host) const { return at(host).host->why(); }

  // A ready host with room, `preferred` if it is one; -1: none.
  [[nodiscard]] int find_room(int preferred) const;
  // Counts the process as there until left(), also where it fails.
  Status start(int host, int process, const Variables& variables);
  void left(int host) { --at(host).used; }
  void signal(int signal);

  void append_polled(std::vector<pollfd>& polled, bool read_output);
  void handle(const pollfd* polled);
  [[nodiscard]] TimePoint next_deadline() const;
  void on_time(TimePoint now);
  void drain();

  // Hosts that were lost since the last call: their processes are. They are reached for again at next_retry(), by
  // retry().
  std::vector<int> take_lost(TimePoint now);
  [[nodiscard]] TimePoint next_retry() const;
  void retry(TimePoint now);

 private:
  struct Entry {
    std::string name;
    int slots = 0;
    int used = 0;
    std::unique_ptr<Host> host = nullptr;
    int failures = 0;      // to keep or to make a connection, in a row
    bool handled = false;  // its loss is
    TimePoint retry_at = TimePoint::max();
  };

  [[nodiscard]] std::unique_ptr<Host> connect(const std::string& name);
  [[nodiscard]] const Entry& at(int host) const { return entries_[static_cast<std::size_t>(host)]; }
  [[nodiscard]] Entry& at(int host) { return entries_[static_cast<std::size_t>(host)]; }

  const JobConfig& config_;
  const Clock& clock_;
  const Watchdog& watchdog_;
  HostEvents& events_;
  std::vector<Entry> entries_;
};

}  // namespace hora::launch
