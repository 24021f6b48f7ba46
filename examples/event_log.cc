#include "event_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace digits {

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') result += '\\';
    result += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return result + '"';
}

EventLog::EventLog(const std::string& path) {
  if (path.empty()) return;
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (file_ < 0) throw std::runtime_error("cannot open " + path + ": " + std::strerror(errno));
}

EventLog::~EventLog() {
  if (file_ >= 0) ::close(file_);
}

void EventLog::write(const char* event, const std::string& fields) {
  if (file_ < 0) return;
  const double now = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  const std::string line =
      "{\"event\":\"" + std::string(event) + "\",\"t\":" + std::to_string(now) + "," + fields + "}\n";
  // Who reads the events decides whether they matter: a reader that went away does not stop the training.
  if (::write(file_, line.data(), line.size()) < 0 && errno == EPIPE) {
    ::close(file_);
    file_ = -1;
  }
}

}  // namespace digits
