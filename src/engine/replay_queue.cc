#include "engine/replay_queue.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace hora::engine {

TouchedMemory::TouchedMemory(std::size_t bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
}

TouchedMemory::~TouchedMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

ReplayQueue::ReplayQueue(std::uint64_t bytes_max)
    : bytes_max_(bytes_max), news_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!news_) throw std::system_error(errno, std::generic_category(), "eventfd");
}

void ReplayQueue::push(const LogEntry& entry, std::span<const std::byte> payload) {
  wire::Bytes head = encode_entry(entry);
  wire::Bytes copy(payload.begin(), payload.end());
  {
    const MutexLock lock(mutex_);
    if (end_ != End::none) return;
    bytes_ += head.size() + copy.size();
    if (bytes_ > bytes_max_) end_ = End::overfull;
    pieces_.push_back({std::move(head), {}});
    if (!copy.empty()) pieces_.push_back({std::move(copy), {}});
  }
  tell();
}

void ReplayQueue::push(TouchedMemory state) {
  {
    const MutexLock lock(mutex_);
    if (end_ != End::none) return;
    pieces_.push_back({{}, std::move(state)});
  }
  tell();
}

void ReplayQueue::end(End how) {
  {
    const MutexLock lock(mutex_);
    if (end_ == End::none || end_ == End::complete) end_ = how;
  }
  tell();
}

std::optional<ReplayQueue::Piece> ReplayQueue::pop() {
  const MutexLock lock(mutex_);
  if (pieces_.empty()) return std::nullopt;
  Piece first = std::move(pieces_.front());
  pieces_.pop_front();
  bytes_ -= first.entry.size();
  return first;
}

ReplayQueue::End ReplayQueue::ended() const {
  const MutexLock lock(mutex_);
  return end_ == End::complete && !pieces_.empty() ? End::none : end_;
}

void ReplayQueue::clear_news() const noexcept {
  std::uint64_t count;
  [[maybe_unused]] const auto bytes = ::read(news_.get(), &count, sizeof count);
}

void ReplayQueue::tell() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(news_.get(), &one, sizeof one);
}

}  // namespace hora::engine
