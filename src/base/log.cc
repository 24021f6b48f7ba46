#include "base/log.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <chrono>

namespace hora {

void Log::write(LogLevel level, std::string_view subject, std::string_view message) const {
  static constexpr const char* kNames[] = {"ERROR", "WARN", "INFO", "DEBUG"};
  const auto now = std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now());
  const auto millis = now.time_since_epoch().count() % 1000;
  const std::string line =
      fmt::format("{:%FT%T}.{:03}Z {} [{}] {} {}\n", fmt::gmtime(std::chrono::system_clock::to_time_t(now)), millis,
                  who_, subject, kNames[static_cast<int>(level)], message);
  // A log line that cannot be written is lost; there is nowhere left to say so.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace hora
