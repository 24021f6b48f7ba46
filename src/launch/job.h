// One job while it runs: its processes, their output, their replacements, and how it is ended.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/unique_fd.h"
#include "elastic/store/store_client.h"
#include "elastic/store/store_server.h"
#include "interfaces/clock.h"
#include "launch/death_notices.h"
#include "launch/host.h"
#include "launch/hosts.h"
#include "launch/launcher.h"
#include "launch/outcome.h"
#include "launch/output.h"
#include "launch/torch_master.h"
#include "launch/watchdog.h"

namespace hora::launch {

// One thread drives it, in run(); the store has its own.
class Job final : public HostEvents {
 public:
  // `config` and `clock` outlive the job. `signals` is a signalfd of what asks the job to end.
  Job(const JobConfig& config, const Clock& clock, Watchdog watchdog, UniqueFd signals);

  // The exit status for the shell.
  int run();

 private:
  // How far the processes have been pressed to end.
  enum class Pressure { none, failed, asked, killed };

  // One process that was started, or will be. Its index is its number, which tags its output.
  struct Member {
    int slot = 0;
    TimePoint start_at;
    std::string token;
    int host = -1;        // where it runs; before that, where it would best run
    int local_rank = -1;  // among those of its host; before it is started, that of the one it replaces
    bool started = false;
    bool running = false;
    bool waits = false;  // for a host with room, and that was said
    bool replacement = false;
    int quick_failures = 0;  // of the replacements in its slot before it, in a row
  };

  Status start();
  Status start_store();
  Status await_hosts();
  [[nodiscard]] Result<std::string> store_address() const;
  Status start_process(int number, int host);
  [[nodiscard]] int free_local_rank(const Member& member, int host) const;
  [[nodiscard]] int founders_on(int host) const;
  void start_due(TimePoint now);
  void wait_for_events();
  [[nodiscard]] int timeout_ms() const;
  void on_signal();
  void on_output(int number, Stream stream, std::string_view bytes) override;
  void on_end(int number, const Exit& exit, bool out_of_memory) override;
  void on_not_started(int number, std::string_view why) override;
  void on_lost_hosts(TimePoint now);
  void ended(int number, const Exit& exit, bool asked, std::string_view more);
  [[nodiscard]] bool asked_for(const Exit& exit) const;
  std::string replace(int number);
  void press(TimePoint now);
  void flush();
  void say(std::string_view text);
  [[nodiscard]] std::string name(int number) const;
  [[nodiscard]] const Member& at(int number) const { return members_[static_cast<std::size_t>(number)]; }
  [[nodiscard]] Member& at(int number) { return members_[static_cast<std::size_t>(number)]; }

  const JobConfig& config_;
  const Clock& clock_;
  const Log log_{LogLevel::error, "hora run"};
  Watchdog watchdog_;
  UniqueFd signals_;
  Outputs outputs_;
  const std::string job_;
  const std::string secret_;
  std::unique_ptr<store::StoreServer> store_;
  std::unique_ptr<store::StoreClient> store_client_;
  std::unique_ptr<DeathNotices> deaths_;
  TorchMaster master_;
  std::vector<Member> members_;
  Outcome outcome_;
  Hosts hosts_;
  Pressure pressure_ = Pressure::none;
  TimePoint press_at_ = TimePoint::max();
  int interrupted_by_ = 0;
};

}  // namespace hora::launch
