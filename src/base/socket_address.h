// Addresses of stream sockets as text: "unix:@name" (Linux's abstract namespace: nothing can be left over in a file
// system) and "tcp:host:port". All sockets are non-blocking and close-on-exec.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "hora/status.hpp"

namespace hora {

// StatusCode::invalid_argument where `address` is neither form.
Result<UniqueFd> listen_at(std::string_view address);
// What peers dial to reach a socket of listen_at(): port 0 has become the real one.
Result<std::string> address_of(const UniqueFd& listener, std::string_view asked);
// Starts to connect. A TCP connection may still be under way: the socket is writable once it is decided.
// StatusCode::peer_failed: nobody listens there; try_again: too many connections wait there already.
Result<UniqueFd> dial(std::string_view address);
// An accepted connection; StatusCode::try_again where none waits.
Result<UniqueFd> accept_from(const UniqueFd& listener);

// The process at the other end of a Unix socket; 0 where it is in another process namespace, or for TCP.
pid_t peer_pid(const UniqueFd& socket);

// "what: strerror(error)" with the code that fits `error`.
Status system_error(std::string_view what, int error);

}  // namespace hora
