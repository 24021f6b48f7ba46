#include "transports/tcp/ring_stream.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace hora::tcp {
namespace {

// One byte, and with it a descriptor.
union Control {
  cmsghdr header;
  std::array<char, CMSG_SPACE(sizeof(int))> space;
};

bool send_descriptor(int socket, int fd) {
  char byte = 0;
  iovec data{&byte, 1};
  Control control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof(control.space);
  cmsghdr* const part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(part), &fd, sizeof(int));
  return ::sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}

// The number of bytes received, 0 at the end of the stream, -1 with errno.
ssize_t receive_descriptor(int socket, UniqueFd& fd) noexcept {
  char byte = 0;
  iovec data{&byte, 1};
  Control control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof(control.space);
  const ssize_t received = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (received != 1) return received;
  const cmsghdr* const part = CMSG_FIRSTHDR(&message);
  if (part != nullptr && part->cmsg_type == SCM_RIGHTS && part->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(part), sizeof(int));
    fd.reset(number);
  }
  return received;
}

bool would_wait() noexcept {
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

}  // namespace

Result<std::unique_ptr<RingStream>> RingStream::create(UniqueFd socket) {
  UniqueFd memory;
  auto own = Ring::create(memory);
  if (!own.ok()) return own.status();
  auto stream = std::unique_ptr<RingStream>(new RingStream(std::move(socket), std::move(own).value()));
  // A peer that is gone already is found out by membership: the link is silent from the beginning.
  stream->ended_ = !send_descriptor(stream->socket_.get(), memory.get());
  return stream;
}

void RingStream::meet_peer() noexcept {
  if (peer_ || ended_) return;
  UniqueFd memory;
  const ssize_t received = receive_descriptor(socket_.get(), memory);
  if (received < 0 && would_wait()) return;
  if (auto ring = received == 1 && memory ? Ring::map(memory) : Result<Ring>(Status(StatusCode::internal, "no memory"));
      ring.ok())
    peer_ = std::move(ring).value();
  else
    ended_ = true;
}

// Acquire: the bytes up to there are written. What a peer claims beyond the ring is not believed.
std::uint64_t RingStream::readable() const noexcept {
  return peer_ ? peer_.header().produced.load(std::memory_order_seq_cst) - consumed_ : 0;
}

std::uint64_t RingStream::room() const noexcept {
  const std::uint64_t taken = peer_ ? peer_.header().consumed.load(std::memory_order_seq_cst) : 0;
  return kRingBytes - std::min<std::uint64_t>(produced_ - taken, kRingBytes);
}

Moved RingStream::write(std::span<const iovec> pieces) noexcept {
  meet_peer();
  if (ended_) return {0, true, 0};
  std::uint64_t left = room();
  Moved moved;
  for (const iovec& piece : pieces) {
    const std::size_t bytes = std::min<std::uint64_t>(piece.iov_len, left);
    own_.put(produced_ + moved.bytes, {static_cast<const std::byte*>(piece.iov_base), bytes});
    moved.bytes += bytes;
    left -= bytes;
  }
  if (moved.bytes == 0) return moved;
  produced_ += moved.bytes;
  own_.header().produced.store(produced_, std::memory_order_seq_cst);
  // Its memory may have come just now, and it may be asleep since: it could not be before it sent it.
  meet_peer();
  wake_peer(kRingInput);
  return moved;
}

Moved RingStream::read(std::span<const iovec> pieces) noexcept {
  meet_peer();
  std::uint64_t left = readable();
  if (left > kRingBytes) ended_ = true, left = 0;
  Moved moved;
  for (const iovec& piece : pieces) {
    const std::size_t bytes = std::min<std::uint64_t>(piece.iov_len, left);
    if (bytes == 0) break;
    peer_.get(consumed_ + moved.bytes, {static_cast<std::byte*>(piece.iov_base), bytes});
    moved.bytes += bytes;
    left -= bytes;
  }
  if (moved.bytes == 0) return {0, ended_, 0};
  consumed_ += moved.bytes;
  own_.header().consumed.store(consumed_, std::memory_order_seq_cst);
  wake_peer(kRingRoom);
  return moved;
}

// A byte that finds no room is not needed: others wait there.
void RingStream::wake_peer(RingEvent event) noexcept {
  if (!peer_ || (peer_.header().awaits.load(std::memory_order_seq_cst) & event) == 0) return;
  const char byte = 0;
  [[maybe_unused]] const ssize_t sent = ::send(socket_.get(), &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool RingStream::arm(std::uint32_t& events) noexcept {
  events = 0;
  if (!awaits_input_ && !awaits_room_) return true;
  own_.header().awaits.store((awaits_input_ ? kRingInput : 0U) | (awaits_room_ ? kRingRoom : 0U),
                             std::memory_order_seq_cst);
  armed_ = true;
  meet_peer();
  if (ended_ || (awaits_input_ && readable() > 0) || (awaits_room_ && room() > 0)) return false;
  events = EPOLLIN;
  return true;
}

void RingStream::disarm() noexcept {
  if (!armed_) return;
  armed_ = false;
  own_.header().awaits.store(0, std::memory_order_relaxed);  // a byte too many wakes once in vain
  meet_peer();
  std::array<char, 64> bytes;
  while (peer_ && !ended_) {
    const ssize_t received = ::recv(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (received == 0 || (received < 0 && !would_wait())) ended_ = true;
    if (received < static_cast<ssize_t>(bytes.size())) break;
  }
}

}  // namespace hora::tcp
