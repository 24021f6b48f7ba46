#include "launch/host_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "hora/types.hpp"

namespace hora::launch {
namespace {

Status invalid(std::string text) {
  return {StatusCode::invalid_argument, std::move(text)};
}

Result<HostSlots> parse_host(std::string_view text) {
  HostSlots host;
  // Colons inside of brackets belong to an address.
  const std::size_t bracket = text.rfind(']');
  const std::size_t colon = text.find(':', bracket == text.npos ? 0 : bracket);
  host.name = text.substr(0, colon);
  if (host.name.size() > 2 && host.name.front() == '[' && host.name.back() == ']')
    host.name = host.name.substr(1, host.name.size() - 2);
  // A name that begins with a dash would be an option of the remote shell.
  const bool plain = std::ranges::none_of(host.name, [](unsigned char c) { return c <= ' ' || c == '/'; });
  if (host.name.empty() || host.name[0] == '-' || !plain) return invalid(fmt::format("'{}' is no host", text));
  if (colon == text.npos) return host;
  const std::string_view slots = text.substr(colon + 1);
  const auto [end, error] = std::from_chars(slots.data(), slots.data() + slots.size(), host.slots);
  if (error != std::errc() || end != slots.data() + slots.size() || host.slots < 1 || host.slots > kRanksMost)
    return invalid(fmt::format("'{}' does not end with a number of processes from 1 to {}", text, kRanksMost));
  return host;
}

}  // namespace

Result<std::vector<HostSlots>> parse_hosts(std::string_view text) {
  std::vector<HostSlots> hosts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    auto host = parse_host(text.substr(begin, end - begin));
    if (!host.ok()) return host.status();
    if (std::ranges::any_of(hosts, [&](const HostSlots& other) { return other.name == host->name; }))
      return invalid(fmt::format("host {} stands there twice", host->name));
    hosts.push_back(std::move(*host));
    begin = end + 1;
  }
  return hosts;
}

Result<std::vector<int>> place(const std::vector<HostSlots>& hosts, int ranks) {
  std::vector<int> places;
  for (std::size_t host = 0; host < hosts.size(); ++host)
    for (int slot = 0; slot < hosts[host].slots; ++slot)
      if (static_cast<int>(places.size()) < ranks) places.push_back(static_cast<int>(host));
  if (static_cast<int>(places.size()) < ranks)
    return invalid(fmt::format("{} ranks do not fit on the hosts, which take {}", ranks, places.size()));
  return places;
}

}  // namespace hora::launch
