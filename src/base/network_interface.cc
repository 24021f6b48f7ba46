#include "base/network_interface.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>

#include "base/socket_address.h"

namespace hora {
namespace {

struct Pattern {
  explicit Pattern(std::string_view text) {
    excludes = text.starts_with('^');
    if (excludes) text.remove_prefix(1);
    exact = text.starts_with('=');
    if (exact) text.remove_prefix(1);
    while (!text.empty()) {
      const auto comma = std::min(text.find(','), text.size());
      if (comma > 0) names.push_back(text.substr(0, comma));
      text.remove_prefix(std::min(comma + 1, text.size()));
    }
  }

  [[nodiscard]] bool lists(std::string_view name) const {
    return std::any_of(names.begin(), names.end(),
                       [&](std::string_view one) { return exact ? name == one : name.starts_with(one); });
  }

  bool excludes = false;
  bool exact = false;
  std::vector<std::string_view> names;
};

bool is_ipv6(std::string_view host) {
  return host.find(':') != host.npos;
}

}  // namespace

Result<std::vector<InterfaceAddress>> interface_addresses() {
  ifaddrs* found = nullptr;
  if (::getifaddrs(&found) != 0) return system_error("getifaddrs", errno);
  std::vector<InterfaceAddress> addresses;
  for (const ifaddrs* one = found; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || (one->ifa_flags & IFF_UP) == 0) continue;
    const auto family = one->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(one->ifa_addr)->sin6_addr))
      continue;
    const auto bytes = static_cast<socklen_t>(family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    char host[NI_MAXHOST];
    if (::getnameinfo(one->ifa_addr, bytes, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    addresses.push_back({one->ifa_name, host, (one->ifa_flags & IFF_LOOPBACK) != 0});
  }
  ::freeifaddrs(found);
  return addresses;
}

bool names_interface(std::string_view pattern, std::string_view name) {
  const Pattern parsed(pattern);
  return parsed.lists(name) != parsed.excludes;
}

Result<std::string> choose_host(std::string_view pattern, std::span<const InterfaceAddress> addresses,
                                std::string_view preferred) {
  const Pattern parsed(pattern);
  const bool loopback_serves = preferred.empty() || is_loopback(preferred);
  const InterfaceAddress* best = nullptr;
  const auto merit = [&](const InterfaceAddress& address) {
    if (address.host == preferred) return 2;
    return is_ipv6(address.host) == is_ipv6(preferred) ? 1 : 0;
  };
  for (const InterfaceAddress& address : addresses) {
    if (parsed.lists(address.name) == parsed.excludes || (address.loopback && !loopback_serves)) continue;
    if (best == nullptr || merit(address) > merit(*best)) best = &address;
  }
  if (best != nullptr) return best->host;
  std::vector<std::string_view> names;
  for (const InterfaceAddress& address : addresses)
    if (std::find(names.begin(), names.end(), address.name) == names.end()) names.push_back(address.name);
  return Status(StatusCode::invalid_argument,
                fmt::format("HORA_SOCKET_IFNAME: '{}' leaves no interface with an address; there are {}", pattern,
                            fmt::join(names, ", ")));
}

bool is_loopback(std::string_view host) {
  return host.starts_with("127.") || host == "::1";
}

}  // namespace hora
