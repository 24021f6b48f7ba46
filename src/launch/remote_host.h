// A host that is reached by a remote shell: an agent there does what LocalHost does here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "base/frame_socket.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "interfaces/clock.h"
#include "launch/agent_messages.h"
#include "launch/host.h"
#include "launch/process.h"
#include "launch/watchdog.h"

namespace hora::launch {

class RemoteHost final : public Host {
 public:
  // Starts to connect: runs `shell` (the remote shell's command, the host's name included) with the agent's command
  // line as its last argument, and has it work in this process's directory. What the shell says goes to our standard
  // error. A host that is ready and then silent for `silence` is lost. `clock`, `watchdog` and `events` outlive
  // the host.
  RemoteHost(std::vector<std::string> shell, const std::vector<std::string>& command, Duration silence,
             const Clock& clock, const Watchdog& watchdog, HostEvents& events);
  // Ends the remote shell; its agent then kills what it has started.
  ~RemoteHost() override;

  [[nodiscard]] State state() const override { return state_; }
  [[nodiscard]] std::string why() const override { return why_; }
  Status start(int process, const Variables& variables) override;
  void signal(int signal) override;
  void append_polled(std::vector<pollfd>& polled, bool read_output) override;
  std::size_t handle(const pollfd* polled) override;
  [[nodiscard]] TimePoint next_deadline() const override;
  void on_time(TimePoint now) override;
  void drain() override {}  // an agent drains before it tells of an end

 private:
  Status connect(const std::vector<std::string>& command);
  void send(const ToAgent& message);
  void lose(std::string why, bool may_explain = true);
  void read();
  void on(const Ready& ready);
  void on(const Refused& refused);
  void on(const NotStarted& message);
  void on(const OutputBytes& output);
  void on(const Ended& ended);
  void on(const Alive&) {}

  std::vector<std::string> shell_;  // with the agent's command line
  const Duration silence_;
  const Clock& clock_;
  const Watchdog& watchdog_;
  HostEvents& events_;
  State state_ = State::connecting;
  std::string why_;
  Process process_;
  UniqueFd socket_;
  FrameReader reader_;
  FrameWriter writer_;
  TimePoint heard_, next_beat_;
  std::set<int> started_;      // may write, also what they have left running
  std::set<int> running_;      // may end
  std::uint64_t untaken_ = 0;  // bytes of output that the agent was not told of
};

}  // namespace hora::launch
