#include "base/frame_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>

namespace hora {
namespace {

constexpr std::size_t kHeaderBytes = 4;
// Room for one read: little, for most connections say little and a member has thousands, until one fills it.
constexpr std::size_t kFirstReadBytes = std::size_t{4} << 10;
constexpr std::size_t kReadBytes = std::size_t{64} << 10;
constexpr std::size_t kKeptBytesMax = 2 * kFirstReadBytes;  // of an empty buffer

std::array<std::byte, kHeaderBytes> header_of(std::size_t bytes) {
  std::array<std::byte, kHeaderBytes> header;
  for (std::size_t i = 0; i < kHeaderBytes; ++i) header[i] = static_cast<std::byte>(bytes >> (8 * i) & 0xff);
  return header;
}

Status gone(std::string_view why) {
  return {StatusCode::peer_failed, fmt::format("connection lost: {}", why)};
}

}  // namespace

Status FrameWriter::write_some(int socket, std::span<const std::byte>& data) {
  while (!data.empty()) {
    ssize_t sent = ::send(socket, data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == ENOTSOCK) sent = ::write(socket, data.data(), data.size());
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return {};
    if (sent < 0) return gone(::strerror(errno));
    data = data.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

Status FrameWriter::send(int socket, std::span<const std::byte> frame) {
  if (frame.size() > kFrameBytesMax)
    return {StatusCode::resource, fmt::format("a message of {} bytes exceeds {}", frame.size(), kFrameBytesMax)};
  const std::size_t total = kHeaderBytes + frame.size();
  const auto header = header_of(frame.size());
  std::size_t sent = 0;
  if (queue_.empty()) {
    iovec parts[2] = {{const_cast<std::byte*>(header.data()), header.size()},
                      {const_cast<std::byte*>(frame.data()), frame.size()}};
    msghdr message{};
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    ssize_t result;
    do {
      result = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (result < 0 && errno == EINTR);
    // A pipe takes it from the queue.
    if (result < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOTSOCK) return gone(::strerror(errno));
    if (result > 0) sent = static_cast<std::size_t>(result);
    if (sent == total) return {};
  }
  if (queued_bytes_ + total - sent > queue_bytes_max_)
    return {StatusCode::resource, fmt::format("{} bytes wait to be sent and the limit is {}",
                                              queued_bytes_ + total - sent, queue_bytes_max_)};
  wire::Bytes rest;
  rest.reserve(total - sent);
  if (sent < kHeaderBytes) rest.insert(rest.end(), header.begin() + static_cast<std::ptrdiff_t>(sent), header.end());
  const auto body = frame.subspan(sent > kHeaderBytes ? sent - kHeaderBytes : 0);
  rest.insert(rest.end(), body.begin(), body.end());
  queued_bytes_ += rest.size();
  queue_.push_back(std::move(rest));
  return flush(socket);
}

Status FrameWriter::send_with_fd(int socket, std::span<const std::byte> frame, int fd) {
  auto header = header_of(frame.size());
  iovec parts[2] = {{header.data(), header.size()}, {const_cast<std::byte*>(frame.data()), frame.size()}};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = 2;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* entry = CMSG_FIRSTHDR(&message);
  entry->cmsg_level = SOL_SOCKET;
  entry->cmsg_type = SCM_RIGHTS;
  entry->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(entry), &fd, sizeof fd);
  // Small and first in an empty socket buffer: it goes out whole, or the other end is not one of ours.
  const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent != static_cast<ssize_t>(kHeaderBytes + frame.size()))
    return gone(sent < 0 ? ::strerror(errno) : "it does not read");
  return {};
}

Status FrameWriter::flush(int socket) {
  while (!queue_.empty()) {
    auto rest = std::span<const std::byte>(queue_.front()).subspan(front_offset_);
    const std::size_t before = rest.size();
    HORA_TRY(write_some(socket, rest));
    queued_bytes_ -= before - rest.size();
    if (!rest.empty()) {
      front_offset_ += before - rest.size();
      return {};
    }
    queue_.pop_front();
    front_offset_ = 0;
  }
  return {};
}

Status FrameReader::fill(int socket) {
  return read(socket, std::numeric_limits<std::size_t>::max());
}

Status FrameReader::fill_frame(int socket) {
  const auto announced = announced_bytes();
  if (announced && *announced > frame_bytes_max_) return {};  // next() refuses it
  return read(socket, kHeaderBytes + announced.value_or(0) - (end_ - begin_));
}

Status FrameReader::read(int socket, std::size_t bytes_max) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kKeptBytesMax) buffer_ = {};
  }
  const std::size_t room = std::min(filled_ ? kReadBytes : kFirstReadBytes, bytes_max);
  if (buffer_.size() - end_ < room && begin_ > 0) {
    std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
              buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  if (buffer_.size() - end_ < room) buffer_.resize(std::max(buffer_.size() * 2, end_ + room));
  iovec part{buffer_.data() + end_, std::min(buffer_.size() - end_, bytes_max)};
  // Room for a few, so that a stranger who sends several leaks none: the kernel closes what does not fit.
  alignas(cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (got < 0 && errno == ENOTSOCK) {
    message.msg_controllen = 0;
    got = ::read(socket, part.iov_base, part.iov_len);
  }
  if (got < 0) {
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) return {StatusCode::try_again, "nothing to read"};
    return gone(::strerror(errno));
  }
  for (cmsghdr* entry = CMSG_FIRSTHDR(&message); entry != nullptr; entry = CMSG_NXTHDR(&message, entry)) {
    if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
    for (std::size_t i = 0; i < (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(entry) + i * sizeof(int), sizeof fd);
      fd_.reset(fd);
    }
  }
  if (got == 0) return gone("the other end closed it");
  end_ += static_cast<std::size_t>(got);
  filled_ = static_cast<std::size_t>(got) == part.iov_len && part.iov_len < bytes_max;
  return {};
}

std::optional<std::size_t> FrameReader::announced_bytes() const {
  if (end_ - begin_ < kHeaderBytes) return std::nullopt;
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < kHeaderBytes; ++i) bytes |= std::to_integer<std::size_t>(buffer_[begin_ + i]) << (8 * i);
  return bytes;
}

Result<std::optional<std::span<const std::byte>>> FrameReader::next() {
  const auto announced = announced_bytes();
  if (!announced) return std::optional<std::span<const std::byte>>();
  const std::size_t bytes = *announced;
  if (bytes > frame_bytes_max_)
    return Status(StatusCode::mismatch, fmt::format("a frame of {} bytes exceeds {}", bytes, frame_bytes_max_));
  const auto unread = std::span<const std::byte>(buffer_).subspan(begin_, end_ - begin_);
  if (unread.size() < kHeaderBytes + bytes) return std::optional<std::span<const std::byte>>();
  begin_ += kHeaderBytes + bytes;
  return std::optional(unread.subspan(kHeaderBytes, bytes));
}

}  // namespace hora
