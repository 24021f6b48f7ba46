#include "launch/local_address.h"

#include <fmt/format.h>
#include <limits.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/unique_fd.h"

namespace hora::launch {

bool is_this_host(std::string_view name) {
  if (name == "localhost") return true;
  std::array<char, HOST_NAME_MAX + 1> own{};
  return ::gethostname(own.data(), own.size() - 1) == 0 && name == own.data();
}

Result<std::string> address_towards(std::string_view name) {
  const std::string host(name.substr(name.find('@') == name.npos ? 0 : name.find('@') + 1));
  addrinfo hints{};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  // Any port: connecting a datagram socket sends nothing, and chooses the route.
  if (const int error = ::getaddrinfo(host.c_str(), "9", &hints, &found))
    return Status(StatusCode::invalid_argument, fmt::format("{}: {}", host, ::gai_strerror(error)));
  std::string address;
  for (const addrinfo* info = found; info != nullptr && address.empty(); info = info->ai_next) {
    const UniqueFd socket(::socket(info->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage own{};
    socklen_t bytes = sizeof own;
    std::array<char, NI_MAXHOST> text{};
    if (!socket || ::connect(socket.get(), info->ai_addr, info->ai_addrlen) != 0 ||
        ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &bytes) != 0 ||
        ::getnameinfo(reinterpret_cast<sockaddr*>(&own), bytes, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) !=
            0)
      continue;
    address = info->ai_family == AF_INET6 ? fmt::format("[{}]", text.data()) : text.data();
  }
  ::freeaddrinfo(found);
  if (address.empty()) return Status(StatusCode::invalid_argument, fmt::format("{}: no route", host));
  return address;
}

}  // namespace hora::launch
