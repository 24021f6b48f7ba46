#include "launch/remote_host.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include "base/socket_address.h"

namespace hora::launch {
namespace {

constexpr int kExplainMs = 200;
// For the remote shell to reach the host and for its agent to answer.
constexpr Duration kConnectTime = std::chrono::seconds(60);

// For the shell at the other end, which reads the agent's command line.
std::string quoted(std::string_view text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

std::string own_program() {
  std::array<char, PATH_MAX> path;
  const ssize_t bytes = ::readlink("/proc/self/exe", path.data(), path.size());
  return bytes <= 0 ? "hora" : std::string(path.data(), static_cast<std::size_t>(bytes));
}

std::string own_directory() {
  std::array<char, PATH_MAX> path;
  return ::getcwd(path.data(), path.size()) == nullptr ? "/" : path.data();
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

}  // namespace

RemoteHost::RemoteHost(std::vector<std::string> shell, const std::vector<std::string>& command, Duration silence,
                       const Clock& clock, const Watchdog& watchdog, HostEvents& events)
    : shell_(std::move(shell)), silence_(silence), clock_(clock), watchdog_(watchdog), events_(events) {
  shell_.push_back(quoted(own_program()) + " agent");
  if (const Status status = connect(command); !status.ok()) lose(std::string(status.message()));
}

RemoteHost::~RemoteHost() {
  lose("it is not needed any more", /*may_explain=*/false);
}

Status RemoteHost::connect(const std::vector<std::string>& command) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return system_error("socketpair", errno);
  socket_.reset(ends[0]);
  const UniqueFd theirs(ends[1]);
  ::fcntl(socket_.get(), F_SETFL, O_NONBLOCK);
  ProcessSpec spec;
  spec.command = shell_;
  spec.input = theirs.get();
  spec.output = theirs.get();
  auto process = spawn(spec, watchdog_);
  if (!process.ok()) return process.status();
  process_ = std::move(*process);
  heard_ = clock_.now();
  const auto silence_ms = std::chrono::ceil<std::chrono::milliseconds>(silence_).count();
  send(Setup{command, own_directory(), static_cast<std::uint32_t>(silence_ms)});
  return {};
}

// `may_explain`: the shell has a moment to end by itself, for its exit status says more than the end of its output. The
// one place that blocks, once for a host that is lost.
void RemoteHost::lose(std::string why, bool may_explain) {
  if (state_ == State::lost) return;
  state_ = State::lost;
  socket_.reset();
  if (process_.pid > 0) {
    pollfd ended{process_.pidfd.get(), POLLIN, 0};
    if (may_explain) (void)::poll(&ended, 1, kExplainMs);
    ::kill(-process_.pid, SIGKILL);
    const Exit exit = reap(process_, watchdog_);
    if (exit.code != 0) why = fmt::format("the remote shell {}", describe(exit));
  }
  why_ = fmt::format("{}: {}", joined(shell_), why);
}

void RemoteHost::send(const ToAgent& message) {
  if (state_ == State::lost) return;
  if (const Status status = writer_.send(socket_.get(), encode(message)); !status.ok())
    lose(std::string(status.message()));
}

Status RemoteHost::start(int process, const Variables& variables) {
  started_.insert(process);
  running_.insert(process);
  send(Start{process, variables});
  if (state_ == State::lost) return {StatusCode::peer_failed, why_};
  return {};
}

void RemoteHost::signal(int signal) {
  send(Signal{signal});
}

void RemoteHost::append_polled(std::vector<pollfd>& polled, bool read_output) {
  if (read_output && untaken_ > 0) send(Taken{std::exchange(untaken_, 0)});
  const bool lost = state_ == State::lost;
  polled.push_back({lost ? -1 : socket_.get(), static_cast<short>(writer_.pending() ? POLLIN | POLLOUT : POLLIN), 0});
  // Ends without a word of the agent: the remote shell could not reach the host.
  polled.push_back({lost ? -1 : process_.pidfd.get(), POLLIN, 0});
}

std::size_t RemoteHost::handle(const pollfd* polled) {
  constexpr std::size_t kEntries = 2;
  if (state_ == State::lost) return kEntries;
  if ((polled[0].revents & POLLOUT) != 0)
    if (const Status status = writer_.flush(socket_.get()); !status.ok()) lose(std::string(status.message()));
  if ((polled[0].revents & ~POLLOUT) != 0)
    read();
  else if (polled[1].revents != 0)
    lose("the remote shell has ended");
  return kEntries;
}

TimePoint RemoteHost::next_deadline() const {
  if (state_ == State::lost) return TimePoint::max();
  return state_ == State::ready ? std::min(next_beat_, heard_ + silence_) : heard_ + kConnectTime;
}

// A launcher that was paused itself does not take its hosts for silent: what has arrived was read before, and where all
// were paused, nothing has.
void RemoteHost::on_time(TimePoint now) {
  if (state_ == State::lost) return;
  const Duration silence = state_ == State::ready ? silence_ : kConnectTime;
  if (was_paused(now, next_deadline(), silence)) heard_ = now;
  if (now >= heard_ + silence)
    return lose(fmt::format("silent for {} ms", std::chrono::round<std::chrono::milliseconds>(now - heard_).count()),
                /*may_explain=*/false);
  if (state_ != State::ready || now < next_beat_) return;
  next_beat_ = now + beat(silence_);
  send(Alive{});
}

void RemoteHost::read() {
  const Status status = reader_.fill(socket_.get());
  if (status.ok()) heard_ = clock_.now();
  while (state_ != State::lost) {
    auto frame = reader_.next();
    if (frame.ok() && !frame.value()) break;
    auto message = frame.ok() ? decode_from_agent(**frame) : Result<FromAgent>(frame.status());
    if (!message.ok())
      return lose(state_ == State::connecting
                      ? "its first words are not those of an agent; does a login script print something?"
                      : "amid the agent's words stood some that are none");
    std::visit([this](const auto& one) { on(one); }, *message);
  }
  if (!status.ok() && status.code() != StatusCode::try_again) lose(std::string(status.message()));
}

void RemoteHost::on(const Ready& ready) {
  if (ready.protocol != kAgentProtocol) return lose("the hora there is of another version");
  if (state_ == State::connecting) state_ = State::ready;
  next_beat_ = clock_.now() + beat(silence_);
}

void RemoteHost::on(const Refused& refused) {
  lose(refused.why);
}

void RemoteHost::on(const NotStarted& message) {
  if (running_.erase(message.process) > 0) events_.on_not_started(message.process, message.why);
}

void RemoteHost::on(const OutputBytes& output) {
  untaken_ += output.bytes.size();
  if (started_.contains(output.process)) events_.on_output(output.process, output.stream, output.bytes);
}

void RemoteHost::on(const Ended& ended) {
  if (running_.erase(ended.process) > 0) events_.on_end(ended.process, ended.exit, ended.out_of_memory);
}

}  // namespace hora::launch
