// How the founders of a job meet: every rank publishes itself in the store, the last one to come puts the founding view
// together, and all adopt the one outcome that the store holds: the view, or the same error.
#pragma once

#include <cstdint>
#include <string>

#include "hora/options.hpp"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "interfaces/store.h"

namespace hora::engine {

struct Founding {
  View view;  // epoch 1; chunk_bytes and one_shot_bytes are 0 where rank 0 left them to the transports
  Rank self;
};

// Random, so never reused: one for each incarnation of a process.
MemberId new_member_id();

// Equal for two processes exactly when they can share memory by passing descriptors over Unix sockets and see each
// other's pids: a hash of boot id, process, network and IPC namespaces.
Result<std::uint64_t> this_host();

// `store` may be null for size 1. `host` is this_host(), `address` where this member's control socket listens. Ends by
// options.start_timeout_ms (plus the store's own patience): then the error, the same on every rank, names the ranks
// that did not come. Two values of HORA_SIZE in one job, a rank out of range, or a rank that came twice, are errors
// too.
Result<Founding> agree(const Options& options, Store* store, const Clock& clock, MemberId id, std::uint64_t host,
                       const std::string& address);

}  // namespace hora::engine
