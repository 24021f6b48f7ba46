// Frames over a non-blocking stream socket: a 32-bit little-endian length, then that many bytes. Writing and reading
// are two objects, so that a mutex for the writer does not concern the reader. A pipe serves as well, if its owner made
// it non-blocking and ignores SIGPIPE.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <span>
#include <vector>

#include "base/unique_fd.h"
#include "base/wire.h"
#include "hora/status.hpp"

namespace hora {

inline constexpr std::size_t kFrameBytesMax = std::size_t{16} << 20;

// What does not fit into the socket is queued, up to a limit. Not thread safe.
class FrameWriter {
 public:
  explicit FrameWriter(std::size_t queue_bytes_max = kFrameBytesMax) noexcept : queue_bytes_max_(queue_bytes_max) {}

  // Sends or queues one frame. StatusCode::resource: the queue is full, or the frame too large; peer_failed: the other
  // end is gone. After an error the stream is of no further use.
  Status send(int socket, std::span<const std::byte> frame);
  // Like send(), and passes `fd` along over a Unix socket. Only while nothing is queued.
  Status send_with_fd(int socket, std::span<const std::byte> frame, int fd);
  // Writes what the socket takes of the queue.
  Status flush(int socket);
  [[nodiscard]] bool pending() const noexcept { return !queue_.empty(); }

 private:
  Status write_some(int socket, std::span<const std::byte>& data);

  std::size_t queue_bytes_max_;
  std::deque<wire::Bytes> queue_;
  std::size_t front_offset_ = 0;  // bytes of the first queued block that are out
  std::size_t queued_bytes_ = 0;
};

class FrameReader {
 public:
  // A frame longer than `frame_bytes_max` is an error: a stranger cannot make us allocate.
  explicit FrameReader(std::size_t frame_bytes_max = kFrameBytesMax) noexcept : frame_bytes_max_(frame_bytes_max) {}

  // Reads once from the socket. StatusCode::try_again: nothing was there; peer_failed: the other end is gone.
  Status fill(int socket);
  // The same, but reads nothing that follows the frame that is being read.
  Status fill_frame(int socket);
  // The next whole frame, valid until the next call of any member; nullopt: more bytes are needed.
  Result<std::optional<std::span<const std::byte>>> next();
  // The last file descriptor that came along.
  UniqueFd take_fd() noexcept { return std::move(fd_); }
  void set_frame_bytes_max(std::size_t bytes) noexcept { frame_bytes_max_ = bytes; }

 private:
  Status read(int socket, std::size_t bytes_max);
  // The size that a header says; nullopt: it is not there yet.
  [[nodiscard]] std::optional<std::size_t> announced_bytes() const;

  std::size_t frame_bytes_max_;
  wire::Bytes buffer_;
  std::size_t begin_ = 0, end_ = 0;  // unread bytes of buffer_
  bool filled_ = false;              // the last read had more to give than room
  UniqueFd fd_;
};

}  // namespace hora
