// What is still to be sent to one newcomer, in order: filled by the threads whose calls end, emptied by the one that
// sends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <utility>

#include "base/mutex.h"
#include "base/unique_fd.h"
#include "base/wire.h"
#include "engine/replay_log.h"

namespace hora::engine {

// Private anonymous memory that was touched before it is needed, so that filling it costs a copy and nothing else.
class TouchedMemory {
 public:
  TouchedMemory() noexcept = default;
  // Empty when there is not so much memory.
  explicit TouchedMemory(std::size_t bytes);
  ~TouchedMemory();
  TouchedMemory(TouchedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  TouchedMemory& operator=(TouchedMemory&& other) noexcept {
    std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
    return *this;
  }
  [[nodiscard]] std::span<std::byte> span() const noexcept { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Thread safe.
class ReplayQueue {
 public:
  struct Piece {  // one of them
    wire::Bytes entry;
    TouchedMemory state;
    [[nodiscard]] std::span<const std::byte> bytes() const noexcept {
      return entry.empty() ? std::span<const std::byte>(state.span()) : entry;
    }
  };
  enum class End {
    none,
    complete,   // what is in the queue is the last
    overfull,   // the newcomer lags behind by more than the queue may hold
    no_memory,  // something is missing
    stopped,    // this member gives no more
  };

  // `bytes_max`: of entries and their results; the state does not count. Throws std::system_error.
  explicit ReplayQueue(std::uint64_t bytes_max);

  // Nothing once there is an end. `payload` is copied.
  void push(const LogEntry& entry, std::span<const std::byte> payload = {});
  void push(TouchedMemory state);
  // complete gives way to all others, which are final.
  void end(End how);

  // Readable when something was pushed, or the end came, since clear_news().
  [[nodiscard]] int fd() const noexcept { return news_.get(); }
  void clear_news() const noexcept;
  // The oldest piece.
  std::optional<Piece> pop();
  // complete: and the queue is empty.
  [[nodiscard]] End ended() const;

 private:
  void tell() const noexcept;

  const std::uint64_t bytes_max_;
  const UniqueFd news_;
  mutable Mutex mutex_;
  std::deque<Piece> pieces_ GUARDED_BY(mutex_);
  std::uint64_t bytes_ GUARDED_BY(mutex_) = 0;
  End end_ GUARDED_BY(mutex_) = End::none;
};

}  // namespace hora::engine
