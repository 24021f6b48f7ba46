#include "launch/output.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace hora::launch {
namespace {

constexpr std::size_t kQueueBytesMax = std::size_t{1} << 20;

// A pipe that polls as writable takes PIPE_BUF bytes without blocking, and its flags are not ours alone. A terminal
// polls as writable when it takes a few, but it can be opened anew.
UniqueFd terminal_of(int stream) {
  if (::isatty(stream) == 0) return {};
  return UniqueFd(
      ::open(fmt::format("/proc/self/fd/{}", stream).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

bool is_same_place(int one, int other) {
  struct stat first {};
  struct stat second {};
  return ::fstat(one, &first) == 0 && ::fstat(other, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

}  // namespace

Output::Output(int destination, bool tags)
    : terminal_(terminal_of(destination)), destination_(terminal_ ? terminal_.get() : destination), tags_(tags) {}

void Output::feed(int process, std::string_view bytes) {
  if (tags_)
    queue_ += taggers_.try_emplace(process, fmt::format("[{}] ", process)).first->second.feed(bytes);
  else
    queue_ += bytes;
}

void Output::finish(int process) {
  const auto found = taggers_.find(process);
  if (found == taggers_.end()) return;
  queue_ += found->second.finish();
  taggers_.erase(found);
}

void Output::finish_all() {
  for (auto& [process, tagger] : taggers_) queue_ += tagger.finish();
  taggers_.clear();
}

void Output::say(std::string_view line) {
  queue_ += line;
  queue_ += '\n';
}

bool Output::full() const noexcept {
  return queue_.size() >= kQueueBytesMax;
}

void Output::write() {
  if (broken_) queue_.clear();
  if (queue_.empty()) return;
  std::size_t bytes = std::min<std::size_t>(queue_.size(), PIPE_BUF);
  if (const std::size_t end = queue_.rfind('\n', bytes - 1); end != queue_.npos) bytes = end + 1;
  const ssize_t written = ::write(destination_, queue_.data(), bytes);
  if (written > 0) {
    amid_line_ = queue_[static_cast<std::size_t>(written) - 1] != '\n';
    queue_.erase(0, static_cast<std::size_t>(written));
  }
  if (written >= 0 || errno == EAGAIN || errno == EINTR) return;
  broken_ = true;
  queue_.clear();
}

Outputs::Outputs(bool tags)
    : output_(STDOUT_FILENO, tags),
      error_(STDERR_FILENO, tags),
      same_place_(is_same_place(STDOUT_FILENO, STDERR_FILENO)) {}

void Outputs::feed(int process, Stream stream, std::string_view bytes) {
  (stream == Stream::output ? output_ : error_).feed(process, bytes);
}

void Outputs::finish(int process) {
  output_.finish(process);
  error_.finish(process);
}

void Outputs::finish_all() {
  output_.finish_all();
  error_.finish_all();
}

Outputs::Polled Outputs::polled() const noexcept {
  constexpr pollfd kNot{-1, 0, 0};
  return {waits(error_) ? kNot : output_.polled(), waits(output_) ? kNot : error_.polled()};
}

void Outputs::write(const pollfd* polled) {
  if (polled[0].revents != 0) output_.write();
  // By now the first may stand amid a line.
  if (polled[1].revents != 0 && !waits(output_)) error_.write();
}

}  // namespace hora::launch
