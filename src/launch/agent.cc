#include "launch/agent.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/frame_socket.h"
#include "base/time.h"
#include "interfaces/system_clock.h"
#include "launch/agent_messages.h"
#include "launch/local_host.h"
#include "launch/process.h"
#include "launch/watchdog.h"

namespace hora::launch {
namespace {

// More than any command line: what a stranger sends is not taken for a long message.
constexpr std::size_t kMessageBytesMax = std::size_t{8} << 20;

// Until the setup, which says how long silence may last.
constexpr Duration kSetupTime = std::chrono::seconds(60);

class Agent final : public HostEvents {
 public:
  Agent(const Clock& clock, Watchdog watchdog)
      : clock_(clock), watchdog_(std::move(watchdog)), heard_(clock.now()), next_beat_(heard_ + kSetupTime) {}

  void run() {
    while (connected_) {
      const bool room = untaken_ < kAgentWindowBytes;
      std::vector<pollfd> polled{{STDIN_FILENO, POLLIN, 0}, {writer_.pending() ? STDOUT_FILENO : -1, POLLOUT, 0}};
      if (host_) host_->append_polled(polled, room);
      const int found = ::poll(polled.data(), polled.size(), timeout_ms());
      if (found < 0 && errno != EINTR) return;
      if (found < 0) continue;
      if (found > 0 && host_) host_->handle(&polled[2]);
      if (polled[1].revents != 0) connected_ = connected_ && writer_.flush(STDOUT_FILENO).ok();
      if (polled[0].revents != 0) read();
      on_time(clock_.now());
    }
  }

 private:
  [[nodiscard]] TimePoint next_deadline() const { return std::min(next_beat_, heard_ + silence_); }
  [[nodiscard]] int timeout_ms() const {
    const Duration left = next_deadline() - clock_.now();
    return static_cast<int>(std::max<std::int64_t>(std::chrono::ceil<std::chrono::milliseconds>(left).count(), 0));
  }
  // An agent that was paused itself does not take its launcher for silent: what has arrived was read before, and where
  // both were paused, nothing has.
  void on_time(TimePoint now) {
    if (was_paused(now, next_deadline(), silence_)) heard_ = now;
    if (now >= heard_ + silence_) {
      connected_ = false;
    } else if (now >= next_beat_) {
      next_beat_ = now + beat(silence_);
      send(Alive{});
    }
  }

  void send(const FromAgent& message) {
    if (!writer_.send(STDOUT_FILENO, encode(message)).ok()) connected_ = false;
  }
  void refuse(std::string why) {
    send(Refused{std::move(why)});
    connected_ = false;
  }

  void on_output(int process, Stream stream, std::string_view bytes) override {
    untaken_ += bytes.size();
    send(OutputBytes{process, stream, std::string(bytes)});
  }
  void on_end(int process, const Exit& exit, bool out_of_memory) override { send(Ended{process, exit, out_of_memory}); }
  // LocalHost::start() tells at once.
  void on_not_started(int, std::string_view) override {}

  void read() {
    const Status status = reader_.fill(STDIN_FILENO);
    if (!status.ok() && status.code() != StatusCode::try_again) connected_ = false;
    if (status.ok()) heard_ = clock_.now();
    while (connected_) {
      auto frame = reader_.next();
      if (!frame.ok()) return refuse(std::string(frame.status().message()));
      if (!frame.value()) return;
      auto message = decode_to_agent(**frame);
      if (!message.ok()) return refuse(std::string(message.status().message()));
      std::visit([this](auto& one) { on(one); }, *message);
    }
  }

  void on(Setup& setup) {
    if (::chdir(setup.directory.c_str()) != 0)
      return refuse(fmt::format("cannot work in {}: {}", setup.directory, ::strerror(errno)));
    if (const int status = check_command(setup.command[0]); status != 0)
      return refuse(fmt::format("{}: {}", setup.command[0], status == 127 ? "command not found" : "not a program"));
    host_ = std::make_unique<LocalHost>(std::move(setup.command), /*piped=*/true, watchdog_, *this);
    silence_ = std::chrono::milliseconds(setup.silence_ms);
    next_beat_ = clock_.now() + beat(silence_);
    send(Ready{});
  }
  void on(const Start& start) {
    if (!host_) return refuse("a process before the setup");
    if (const Status status = host_->start(start.process, start.variables); !status.ok())
      send(NotStarted{start.process, std::string(status.message())});
  }
  void on(const Signal& signal) {
    if (host_) host_->signal(signal.signal);
  }
  void on(const Alive&) {}
  void on(const Taken& taken) { untaken_ -= std::min(untaken_, taken.bytes); }

  const Clock& clock_;
  Watchdog watchdog_;
  FrameReader reader_{kMessageBytesMax};
  FrameWriter writer_;
  std::unique_ptr<LocalHost> host_;  // after the setup; ends its processes when the agent does
  std::uint64_t untaken_ = 0;        // bytes of output that the launcher has not taken
  TimePoint heard_, next_beat_;
  Duration silence_ = kSetupTime;
  bool connected_ = true;
};

}  // namespace

int run_agent() {
  prepare_to_spawn();
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGHUP);  // the end of the connection tells the same, in order
  ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO})
    ::fcntl(stream, F_SETFL, ::fcntl(stream, F_GETFL) | O_NONBLOCK);
  auto watchdog = Watchdog::start();
  if (!watchdog.ok()) {
    fmt::print(stderr, "hora agent: {}\n", watchdog.status().message());
    return 1;
  }
  const SystemClock clock;
  Agent(clock, std::move(*watchdog)).run();
  return 0;
}

}  // namespace hora::launch
