// Connected sockets for tests of what is written over them.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>
#include <utility>

#include "base/unique_fd.h"

namespace hora::tcp {

using Connected = std::pair<UniqueFd, UniqueFd>;

inline int checked(int result, const char* what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
  return result;
}

inline UniqueFd duplicate(const UniqueFd& fd) {
  return UniqueFd(checked(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0), "dup"));
}

// Makes TCP connections over loopback.
class Listener {
 public:
  Listener() : socket_(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket")) {
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    checked(::bind(socket_.get(), as_address(), sizeof(address_)), "bind");
    checked(::listen(socket_.get(), 1), "listen");
    socklen_t length = sizeof(address_);
    checked(::getsockname(socket_.get(), as_address(), &length), "getsockname");
  }

  Connected connect() {
    UniqueFd dialed(checked(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    checked(::connect(dialed.get(), as_address(), sizeof(address_)), "connect");
    UniqueFd accepted(checked(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
    for (const UniqueFd* end : {&dialed, &accepted}) {
      checked(::fcntl(end->get(), F_SETFL, O_NONBLOCK), "fcntl");
      // Thousands of connections that wait for stragglers after their end would use up the ports.
      const linger none{1, 0};
      const int on = 1;
      checked(::setsockopt(end->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), "TCP_NODELAY");
      checked(::setsockopt(end->get(), SOL_SOCKET, SO_LINGER, &none, sizeof(none)), "SO_LINGER");
    }
    return {std::move(dialed), std::move(accepted)};
  }

 private:
  sockaddr* as_address() { return reinterpret_cast<sockaddr*>(&address_); }

  UniqueFd socket_;
  sockaddr_in address_{};
};

inline Connected connect_locally() {
  std::array<int, 2> ends{};
  checked(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()), "socketpair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Takes away what has come and was not read.
inline void discard_received(const UniqueFd& socket) {
  std::array<std::byte, 4096> bytes;
  while (::recv(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) > 0) {
  }
}

}  // namespace hora::tcp
