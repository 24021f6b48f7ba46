// The processes of a job on this host: starts them, reads what they write, reaps them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "launch/host.h"
#include "launch/oom_counter.h"
#include "launch/process.h"
#include "launch/watchdog.h"

namespace hora::launch {

class LocalHost final : public Host {
 public:
  // With `piped`, output goes to `events`; otherwise processes write to the streams of this one. `watchdog` and
  // `events` outlive the host.
  LocalHost(std::vector<std::string> command, bool piped, const Watchdog& watchdog, HostEvents& events)
      : command_(std::move(command)), piped_(piped), watchdog_(watchdog), events_(events) {}
  // Kills what still runs.
  ~LocalHost() override;

  [[nodiscard]] State state() const override { return State::ready; }
  [[nodiscard]] std::string why() const override { return ""; }
  Status start(int process, const Variables& variables) override;
  void signal(int signal) override;
  void append_polled(std::vector<pollfd>& polled, bool read_output) override;
  std::size_t handle(const pollfd* polled) override;
  [[nodiscard]] TimePoint next_deadline() const override { return TimePoint::max(); }
  void on_time(TimePoint) override {}
  void drain() override;

 private:
  struct Running {
    int number;
    Process process;
  };
  struct Source {
    int process;
    Stream stream;
    UniqueFd fd;
  };

  Result<int> piped(int process, Stream stream, UniqueFd& writer);
  void read(Source& source);
  void drain(Source& source);
  void end(const Running& running);

  std::vector<std::string> command_;
  bool piped_;
  const Watchdog& watchdog_;
  HostEvents& events_;
  OomCounter oom_;
  std::vector<Running> running_;
  std::vector<Source> sources_;
};

}  // namespace hora::launch
