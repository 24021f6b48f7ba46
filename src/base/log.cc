#include "base/log.h"

#include <fmt/chrono.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <climits>

namespace hora {
namespace {

// False where that would wait: at a terminal that is held by Ctrl-S, or a pipe that nobody reads. The sentinel logs,
// and its silence would cost this rank its membership. Also false where nobody will ever read: no SIGPIPE for a log
// line.
bool write_at_once(std::string_view text) {
  while (!text.empty()) {
    pollfd output{STDERR_FILENO, POLLOUT, 0};
    if (::poll(&output, 1, 0) != 1 || output.revents != POLLOUT) return false;
    // A pipe that is ready takes so many bytes without waiting.
    const ssize_t written = ::write(STDERR_FILENO, text.data(), std::min<std::size_t>(text.size(), PIPE_BUF));
    if (written <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace

void Log::write(LogLevel level, std::string_view subject, std::string_view message) const {
  static constexpr const char* kNames[] = {"ERROR", "WARN", "INFO", "DEBUG"};
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto millis = now.time_since_epoch().count() % 1000;
  const std::string begin =
      fmt::format("{:%FT%T}.{:03}Z {}", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), millis, who_);
  const std::uint64_t lost = lost_.exchange(0, std::memory_order_relaxed);  // a mere count
  std::string lines;
  if (lost > 0) lines = fmt::format("{} [log] WARN lines lost, for standard error had no room: {}\n", begin, lost);
  lines += fmt::format("{} [{}] {} {}\n", begin, subject, kNames[static_cast<int>(level)], message);
  if (!write_at_once(lines)) lost_.fetch_add(lost + 1, std::memory_order_relaxed);
}

}  // namespace hora
