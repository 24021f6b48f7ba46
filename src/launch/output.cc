#include "launch/output.h"

#include <limits.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace hora::launch {
namespace {

// With this much unwritten the ranks are read no further.
constexpr std::size_t kQueueBytesMax = std::size_t{1} << 20;

}  // namespace

void Output::add(UniqueFd source, std::string tag) {
  sources_.push_back({std::move(source), LineTagger(std::move(tag))});
}

void Output::say(std::string_view line) {
  queue_ += line;
  queue_ += '\n';
}

void Output::append_polled(std::vector<pollfd>& polled) const {
  // A negative descriptor is ignored by poll(2).
  polled.push_back({queue_.empty() ? -1 : destination_, POLLOUT, 0});
  const bool full = queue_.size() >= kQueueBytesMax;
  for (const Source& source : sources_) polled.push_back({full ? -1 : source.fd.get(), POLLIN, 0});
}

std::size_t Output::handle(const pollfd* polled) {
  const std::size_t count = 1 + sources_.size();
  if (polled[0].revents != 0) write();
  for (std::size_t i = 0; i < sources_.size(); ++i)
    if (polled[i + 1].revents != 0) read(sources_[i]);
  std::erase_if(sources_, [](const Source& source) { return !source.fd; });
  return count;
}

void Output::read(Source& source) {
  std::array<char, 65536> buffer;
  const ssize_t got = ::read(source.fd.get(), buffer.data(), buffer.size());
  if (got > 0) {
    queue_ += source.tagger.feed({buffer.data(), static_cast<std::size_t>(got)});
  } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
    queue_ += source.tagger.finish();
    source.fd.reset();
  }
}

void Output::close_sources() {
  for (Source& source : sources_) {
    for (bool more = true; more && source.fd;) {
      pollfd polled{source.fd.get(), POLLIN, 0};
      more = ::poll(&polled, 1, 0) > 0;
      if (more) read(source);
    }
    if (source.fd) queue_ += source.tagger.finish();
  }
  sources_.clear();
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
