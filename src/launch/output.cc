#include "launch/output.h"

#include <fmt/format.h>
#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace hora::launch {
namespace {

constexpr std::size_t kQueueBytesMax = std::size_t{1} << 20;

}  // namespace

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
  // A pipe that polls as writable takes PIPE_BUF bytes without blocking, and we do not own its flags.
  const std::size_t bytes = std::min<std::size_t>(queue_.size(), PIPE_BUF);
  const ssize_t written = broken_ ? static_cast<ssize_t>(queue_.size()) : ::write(destination_, queue_.data(), bytes);
  if (written > 0) queue_.erase(0, static_cast<std::size_t>(written));
  if (written >= 0 || errno == EAGAIN || errno == EINTR) return;
  broken_ = true;
  queue_.clear();
}

}  // namespace hora::launch
