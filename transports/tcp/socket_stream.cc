#include "transports/tcp/socket_stream.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

namespace hora::tcp {
namespace {

msghdr message_of(std::span<const iovec> pieces) noexcept {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());  // the kernel reads it only
  message.msg_iovlen = pieces.size();
  return message;
}

Moved outcome(ssize_t moved) noexcept {
  if (moved >= 0) return {static_cast<std::size_t>(moved)};
  if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR || errno == ENOBUFS) return {};
  return {0, true, errno};
}

}  // namespace

Moved SocketStream::write(std::span<const iovec> pieces) noexcept {
  const msghdr message = message_of(pieces);
  return outcome(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}

Moved SocketStream::read(std::span<const iovec> pieces) noexcept {
  msghdr message = message_of(pieces);
  const ssize_t moved = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
  if (moved == 0) return {0, true, 0};
  return outcome(moved);
}

bool SocketStream::arm(std::uint32_t& events) noexcept {
  events = (awaits_input_ ? std::uint32_t{EPOLLIN} : 0) | (awaits_room_ ? std::uint32_t{EPOLLOUT} : 0);
  return true;
}

}  // namespace hora::tcp
