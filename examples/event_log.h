// One JSON object a line into a file or a named pipe, each with the time of CLOCK_MONOTONIC, which all processes of a
// host share. Silent when no path was given.
#pragma once

#include <string>
#include <string_view>

namespace digits {

// `text` as a JSON string.
std::string quoted(std::string_view text);

class EventLog {
 public:
  // Throws std::runtime_error when `path` cannot be opened; an empty path makes a log that drops everything.
  explicit EventLog(const std::string& path);
  ~EventLog();
  EventLog(const EventLog&) = delete;
  EventLog& operator=(const EventLog&) = delete;

  // `fields`: the rest of the object, e.g. "\"step\":3". Each line is one write, so a killed process leaves no half
  // line but its last.
  void write(const char* event, const std::string& fields);

 private:
  int file_ = -1;
};

}  // namespace digits
