// Addresses of stream sockets as text: "unix:@name" (Linux's abstract namespace: nothing can be left over in a file
// system) and "tcp:host:port". All sockets are non-blocking and close-on-exec.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/time.h"
#include "base/unique_fd.h"
#include "hora/status.hpp"

namespace hora {

// StatusCode::invalid_argument where `address` is neither form. A host by name listens at all addresses of this host;
// by number, or as localhost, at that one alone.
Result<UniqueFd> listen_at(std::string_view address);
// Listens for TCP at a numeric `host`, at the first port of [first, last] that is free; 0: at any port.
// StatusCode::resource where none is (HORA_PORT_RANGE).
Result<UniqueFd> listen_in_range(std::string_view host, std::uint16_t first, std::uint16_t last);
// "tcp:host:port", with brackets where `host` is an IPv6 address.
std::string tcp_address(std::string_view host, std::uint16_t port);
// What peers dial to reach a socket of listen_at(): port 0 has become the real one.
Result<std::string> address_of(const UniqueFd& listener, std::string_view asked);
// Starts to connect. A TCP connection may still be under way: the socket is writable once it is decided.
// StatusCode::peer_failed: nobody listens there; try_again: too many connections wait there already. Of a name with
// several addresses, `attempt` says which comes first: who counts its attempts comes to each.
Result<UniqueFd> dial(std::string_view address, std::size_t attempt = 0);
// Once the socket of dial() is writable: 0, or the errno that says why it is not connected.
int connection_error(const UniqueFd& socket);
// An accepted connection; StatusCode::try_again where none waits.
Result<UniqueFd> accept_from(const UniqueFd& listener);

// Whether it is a Unix socket: descriptors can be passed over it.
bool is_local(const UniqueFd& socket);
// Of a TCP connection: it breaks when what was sent is not acknowledged for this long, or finds no room at the other
// end, so only where the other end always reads. While nothing is sent the kernel asks whether the other end is there,
// at most once a second.
void set_acknowledgement_timeout(const UniqueFd& socket, Duration timeout);
// The local numeric address from which `address`, "tcp:host:port", would be reached; where that is a name of this host
// itself, the first that is not loopback, if there is any. Nothing is sent.
Result<std::string> local_host_towards(std::string_view address);

// The process at the other end of a Unix socket; 0 where it is in another process namespace, or for TCP.
pid_t peer_pid(const UniqueFd& socket);
// The user whose process is there, or made it listen; absent for TCP.
std::optional<uid_t> peer_user(const UniqueFd& socket);

// "what: strerror(error)" with the code that fits `error`.
Status system_error(std::string_view what, int error);

}  // namespace hora
