// Which network interface a process listens on, in NCCL's syntax: prefixes "eth,ib", exact names "=eth0,ib1", and
// either of them excluded: "^docker,lo", "^=eth0".
//
// Source of the syntax: NCCL's user guide, NCCL_SOCKET_IFNAME.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "hora/status.hpp"

namespace hora {

// One address of an interface that is up; one with two addresses stands here twice.
struct InterfaceAddress {
  std::string name;
  std::string host;  // numeric
  bool loopback = false;
};

// In the kernel's order, IPv4 and IPv6, without link-local addresses, which mean nothing without their interface.
Result<std::vector<InterfaceAddress>> interface_addresses();

// Whether the pattern names this interface. A pattern of exclusions names all others.
bool names_interface(std::string_view pattern, std::string_view name);

// The address to listen at among those the pattern names: `preferred` if it is one of them, else the first of its
// family, else the first. Loopback comes in question only where `preferred` is loopback or empty: no other
// host is to be reached. StatusCode::invalid_argument, naming HORA_SOCKET_IFNAME and what there is, where nothing fits.
Result<std::string> choose_host(std::string_view pattern, std::span<const InterfaceAddress> addresses,
                                std::string_view preferred);

// "127.x.y.z" or "::1".
bool is_loopback(std::string_view host);

}  // namespace hora
