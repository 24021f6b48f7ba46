#include "base/socket_address.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "base/network_interface.h"

namespace hora {
namespace {

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  [[nodiscard]] const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Status bad_address(std::string_view address) {
  return {StatusCode::invalid_argument,
          fmt::format("\"{}\" is not an address; use unix:@NAME or tcp:HOST:PORT", address)};
}

Result<std::vector<Endpoint>> resolve_unix(std::string_view address, std::string_view name) {
  Endpoint endpoint;
  auto* unix_address = reinterpret_cast<sockaddr_un*>(&endpoint.storage);
  if (name.size() < 2 || name[0] != '@' || name.size() > sizeof unix_address->sun_path) return bad_address(address);
  unix_address->sun_family = AF_UNIX;
  std::memcpy(unix_address->sun_path, name.data(), name.size());
  unix_address->sun_path[0] = '\0';
  endpoint.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  return std::vector{endpoint};
}

// Without the brackets of an IPv6 address.
std::string host_of(std::string_view text) {
  if (text.size() > 2 && text.front() == '[' && text.back() == ']') text = text.substr(1, text.size() - 2);
  return std::string(text);
}

// A name that other hosts may know as well: neither a numeric address nor this host's name for itself alone.
bool is_name(const std::string& host) {
  if (host == "localhost" || host.starts_with("localhost.")) return false;
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST;
  addrinfo* found = nullptr;
  if (::getaddrinfo(host.c_str(), nullptr, &hints, &found) != 0) return true;
  ::freeaddrinfo(found);
  return false;
}

// Where to listen, a name stands for every address: what it means here (127.0.1.1 in many a /etc/hosts, or one of
// several networks) need not be what it means to other hosts. It must mean something, though.
Result<std::vector<Endpoint>> resolve_tcp(std::string_view address, std::string_view rest, bool passive) {
  const auto colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0 || colon + 1 == rest.size()) return bad_address(address);
  const std::string host = host_of(rest.substr(0, colon));
  const bool everywhere = passive && is_name(host);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  const std::string port(rest.substr(colon + 1));
  addrinfo* found = nullptr;
  int error = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (error == 0 && everywhere) {
    ::freeaddrinfo(std::exchange(found, nullptr));
    error = ::getaddrinfo(nullptr, port.c_str(), &hints, &found);
  }
  if (error != 0) return Status(StatusCode::invalid_argument, fmt::format("{}: {}", address, ::gai_strerror(error)));
  std::vector<Endpoint> endpoints;
  for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
    Endpoint endpoint;
    std::memcpy(&endpoint.storage, info->ai_addr, info->ai_addrlen);
    endpoint.bytes = info->ai_addrlen;
    endpoints.push_back(endpoint);
  }
  ::freeaddrinfo(found);
  // That of IPv6 serves IPv4 as well.
  if (everywhere)
    std::stable_partition(endpoints.begin(), endpoints.end(),
                          [](const Endpoint& endpoint) { return endpoint.storage.ss_family == AF_INET6; });
  return endpoints;
}

bool bind_and_listen(const UniqueFd& fd, const Endpoint& endpoint) {
  const int on = 1, off = 0;
  if (endpoint.storage.ss_family != AF_UNIX) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (endpoint.storage.ss_family == AF_INET6) ::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  return ::bind(fd.get(), endpoint.get(), endpoint.bytes) == 0 && ::listen(fd.get(), SOMAXCONN) == 0;
}

Result<std::vector<Endpoint>> resolve(std::string_view address, bool passive) {
  if (address.starts_with("unix:")) return resolve_unix(address, address.substr(5));
  if (address.starts_with("tcp:")) return resolve_tcp(address, address.substr(4), passive);
  return bad_address(address);
}

// A message must not wait for an acknowledgement of the one before it. A Unix socket refuses the option and has no
// need.
void send_at_once(const UniqueFd& fd) {
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

UniqueFd make_socket(const Endpoint& endpoint) {
  UniqueFd fd(::socket(endpoint.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd) send_at_once(fd);
  return fd;
}

}  // namespace

Status system_error(std::string_view what, int error) {
  const bool files = error == EMFILE || error == ENFILE;
  return {StatusCode::resource,
          fmt::format("{}: {}{}", what, ::strerror(error), files ? "; raise the limit on open files (ulimit -n)" : "")};
}

Result<UniqueFd> listen_at(std::string_view address) {
  auto endpoints = resolve(address, true);
  if (!endpoints.ok()) return endpoints.status();
  int error = EADDRNOTAVAIL;
  for (const Endpoint& endpoint : *endpoints) {
    UniqueFd fd = make_socket(endpoint);
    if (fd && bind_and_listen(fd, endpoint)) return fd;
    error = errno;
  }
  return system_error(fmt::format("cannot listen at {}", address), error);
}

Result<UniqueFd> listen_in_range(std::string_view host, std::uint16_t first, std::uint16_t last) {
  for (std::uint32_t port = first; port <= std::max(first, last); ++port) {
    const std::string address = tcp_address(host, static_cast<std::uint16_t>(port));
    auto endpoints = resolve(address, true);
    if (!endpoints.ok()) return endpoints.status();
    UniqueFd fd = make_socket(endpoints->front());
    if (!fd) return system_error("socket", errno);
    if (bind_and_listen(fd, endpoints->front())) return fd;
    if (errno != EADDRINUSE) return system_error(fmt::format("cannot listen at {}", address), errno);
  }
  return Status(StatusCode::resource,
                fmt::format("all ports from {} to {} are taken at {} (HORA_PORT_RANGE)", first, last, host));
}

std::string tcp_address(std::string_view host, std::uint16_t port) {
  const bool brackets = host.find(':') != host.npos;
  return fmt::format("tcp:{}{}{}:{}", brackets ? "[" : "", host, brackets ? "]" : "", port);
}

Result<std::string> address_of(const UniqueFd& listener, std::string_view asked) {
  if (!asked.starts_with("tcp:")) return std::string(asked);
  sockaddr_storage bound{};
  socklen_t bytes = sizeof bound;
  if (::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&bound), &bytes) != 0)
    return system_error("getsockname", errno);
  const auto port = ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&bound)->sin6_port
                                                      : reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
  return fmt::format("{}:{}", asked.substr(0, asked.rfind(':')), port);
}

Result<UniqueFd> dial(std::string_view address, std::size_t attempt) {
  auto endpoints = resolve(address, false);
  if (!endpoints.ok()) return endpoints.status();
  const auto first = static_cast<std::ptrdiff_t>(attempt % endpoints->size());
  std::rotate(endpoints->begin(), endpoints->begin() + first, endpoints->end());
  int error = ECONNREFUSED;
  for (const Endpoint& endpoint : *endpoints) {
    UniqueFd fd = make_socket(endpoint);
    if (!fd) return system_error("socket", errno);
    if (::connect(fd.get(), endpoint.get(), endpoint.bytes) == 0 || errno == EINPROGRESS) return fd;
    error = errno;
  }
  const std::string what = fmt::format("cannot connect to {}", address);
  if (error == EAGAIN) return Status(StatusCode::try_again, fmt::format("{}: its backlog is full", what));
  if (error == ECONNREFUSED) return Status(StatusCode::peer_failed, fmt::format("{}: nobody listens there", what));
  return system_error(what, error);
}

int connection_error(const UniqueFd& socket) {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
  if (error != 0) return error;
  // Where nobody listens at a port that the kernel also gives to those who connect, it may give it to this very socket,
  // which then meets itself.
  sockaddr_storage own{}, peer{};
  socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
  if (::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&own), &own_bytes) != 0 ||
      ::getpeername(socket.get(), reinterpret_cast<sockaddr*>(&peer), &peer_bytes) != 0)
    return errno;
  const bool itself = own.ss_family != AF_UNIX && own_bytes == peer_bytes && std::memcmp(&own, &peer, own_bytes) == 0;
  return itself ? ECONNREFUSED : 0;
}

Result<UniqueFd> accept_from(const UniqueFd& listener) {
  UniqueFd fd(::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (fd) {
    send_at_once(fd);
    return fd;
  }
  if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) return system_error("accept", errno);
  return Status(StatusCode::try_again, "no connection waits");
}

bool is_local(const UniqueFd& socket) {
  int domain = 0;
  socklen_t bytes = sizeof domain;
  return ::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0 && domain == AF_UNIX;
}

void set_acknowledgement_timeout(const UniqueFd& socket, Duration timeout) {
  const auto wait = static_cast<unsigned>(std::chrono::ceil<std::chrono::milliseconds>(timeout).count());
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &wait, sizeof wait);
  const int on = 1;
  const int idle_s = std::max(1, static_cast<int>(wait / 2000));
  ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPINTVL, &idle_s, sizeof idle_s);
}

namespace {

// Empty, with errno: there is no route.
std::string host_towards(const Endpoint& endpoint) {
  const UniqueFd fd(::socket(endpoint.storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage own{};
  socklen_t bytes = sizeof own;
  char host[NI_MAXHOST] = "";
  if (fd && ::connect(fd.get(), endpoint.get(), endpoint.bytes) == 0 &&
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&own), &bytes) == 0)
    ::getnameinfo(reinterpret_cast<sockaddr*>(&own), bytes, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

// The first of the addresses from which the endpoints would be reached, one of loopback only if there is no other.
std::string outward_host_towards(const std::vector<Endpoint>& endpoints) {
  std::string loopback;
  for (const Endpoint& endpoint : endpoints) {
    std::string host = host_towards(endpoint);
    if (!host.empty() && !is_loopback(host)) return host;
    if (loopback.empty()) loopback = std::move(host);
  }
  return loopback;
}

}  // namespace

Result<std::string> local_host_towards(std::string_view address) {
  if (!address.starts_with("tcp:")) return bad_address(address);
  auto endpoints = resolve_tcp(address, address.substr(4), false);
  if (!endpoints.ok()) return endpoints.status();
  std::string host = outward_host_towards(*endpoints);
  if (host.empty()) return system_error(fmt::format("no route to {}", address), errno);
  if (!is_loopback(host) || !is_name(host_of(address.substr(4, address.rfind(':') - 4)))) return host;
  // This host's own name, which means loopback to nobody else.
  auto addresses = interface_addresses();
  if (!addresses.ok()) return addresses.status();
  const auto outward =
      std::find_if(addresses->begin(), addresses->end(), [](const auto& one) { return !one.loopback; });
  return outward == addresses->end() ? host : outward->host;
}

namespace {

std::optional<ucred> peer_credentials(const UniqueFd& socket) {
  ucred credentials{};
  socklen_t bytes = sizeof credentials;
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0) return std::nullopt;
  return credentials;
}

}  // namespace

pid_t peer_pid(const UniqueFd& socket) {
  const auto credentials = peer_credentials(socket);
  return credentials ? credentials->pid : 0;
}

std::optional<uid_t> peer_user(const UniqueFd& socket) {
  const auto credentials = peer_credentials(socket);
  // For a socket without such a thing the kernel gives (uid_t)-1.
  return credentials && credentials->uid != static_cast<uid_t>(-1) ? std::optional(credentials->uid) : std::nullopt;
}

}  // namespace hora
