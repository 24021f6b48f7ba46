// One line of log: "2026-11-21T10:00:00.123Z rank=2 [elastic] WARN message". Levels from HORA_LOG (error, warn, info,
// debug).
//
// Errors are logged once, where they are first decided. A Log is owned by the engine and handed to mechanisms by
// reference; policy code does not log, its actions say what happened.
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace hora {

enum class LogLevel : std::uint8_t { error, warn, info, debug };

// Thread safe: a line is one write to standard error (several, if it is longer than PIPE_BUF). Never waits: a line that
// finds no room is lost, and the next one that finds some says how many were.
class Log {
 public:
  // `who` stands in every line, e.g. "rank=2".
  Log(LogLevel most, std::string who) : most_(most), who_(std::move(who)) {}

  [[nodiscard]] bool enabled(LogLevel level) const noexcept { return level <= most_; }
  template <typename... Args>
  void operator()(LogLevel level, std::string_view subject, fmt::format_string<Args...> text, Args&&... args) const {
    if (enabled(level)) write(level, subject, fmt::format(text, std::forward<Args>(args)...));
  }

 private:
  void write(LogLevel level, std::string_view subject, std::string_view message) const;

  LogLevel most_;
  std::string who_;
  mutable std::atomic<std::uint64_t> lost_{0};
};

}  // namespace hora
