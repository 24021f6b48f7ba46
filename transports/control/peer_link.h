// What a member has of a peer once they are connected.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "hora/view.hpp"

namespace hora::control {

struct Identity {
  MemberId id;
  std::string job;
  std::string secret;
  std::uint64_t host = 0;  // Member::host
};

struct PeerLink {
  MemberId id;
  pid_t pid = 0;     // 0: on another host, or in another process namespace
  UniqueFd pidfd;    // readable when the process has ended; empty where pid is 0
  UniqueFd segment;  // the shared memory segment that the peer passed; empty if it passed none, and between hosts
  // The data connections in index order, the same order on both sides: non-blocking, with TCP_NODELAY where they are
  // TCP. As many as data_sockets_of() says.
  std::vector<UniqueFd> data;
};

// A link that is put together but not yet in the loop.
struct Connection {
  PeerLink link;
  UniqueFd socket;  // the control connection
};

// Data connections between two members: those of the ordered channel, then those of the negotiated one.
[[nodiscard]] inline std::size_t data_sockets_of(const AgreedConfig& config) noexcept {
  return config.transport == Transport::shm ? 0 : std::size_t{2} * config.sockets_per_pair;
}

// Where a member listens for those of its own host. Known from the id alone.
[[nodiscard]] std::string local_address_of(MemberId id);

}  // namespace hora::control
