#include "base/ancestors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <string>
#include <utility>

#include "base/unique_fd.h"

namespace hora {

namespace {

constexpr std::size_t kAncestorsMost = 64;

std::optional<std::string> text_of(pid_t pid, std::string_view name) {
  const UniqueFd file(::open(fmt::format("/proc/{}/{}", pid, name).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) return std::nullopt;
  std::string text;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t got = ::read(file.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;  // it has ended
    if (got == 0) return text;
    text.append(part.data(), static_cast<std::size_t>(got));
  }
}

template <typename Number>
Number number_of(std::string_view text) {
  Number value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

// "PID (NAME) STATE PARENT ... START ...", the fields 4 and 22; the name may hold anything, parentheses too.
ProcessOrigin parse_process_stat(std::string_view text) {
  constexpr std::size_t kParent = 1, kStart = 19;  // counted from the state
  const std::size_t name_end = text.rfind(") ");
  if (name_end == text.npos) return {};
  text.remove_prefix(name_end + 2);
  ProcessOrigin origin;
  for (std::size_t field = 0; field <= kStart && !text.empty(); ++field) {
    const std::size_t space = text.find(' ');
    const std::string_view word = text.substr(0, space);
    if (field == kParent) origin.parent = number_of<pid_t>(word);
    if (field == kStart) origin.start_time = number_of<std::uint64_t>(word);
    text.remove_prefix(space == text.npos ? text.size() : space + 1);
  }
  return origin;
}

std::vector<Ancestor> ancestors_of_this_process() {
  std::vector<Ancestor> ancestors;
  for (pid_t pid = ::getppid(); pid > 0 && ancestors.size() < kAncestorsMost;) {
    const auto stat = text_of(pid, "stat");
    if (!stat) break;
    const ProcessOrigin origin = parse_process_stat(*stat);
    Ancestor ancestor{pid, origin.start_time, std::nullopt};
    if (const auto block = text_of(pid, "environ")) ancestor.environment = Environment::parse(*block);
    ancestors.push_back(std::move(ancestor));
    pid = origin.parent;
  }
  return ancestors;
}

}  // namespace hora
