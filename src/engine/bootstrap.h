// How the founders of a job meet, and how a newcomer finds the job. Every founder publishes itself in the store, the
// last one to come puts the founding view together, and all adopt the one outcome that the store holds: the view, or
// the same error. A newcomer waits for that outcome, and adds itself to the list of those who came later.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "hora/options.hpp"
#include "hora/status.hpp"
#include "hora/view.hpp"
#include "interfaces/clock.h"
#include "interfaces/store.h"

namespace hora::engine {

struct Founding {
  View view;  // epoch 1; chunk_bytes fits the caches of rank 0, one_shot_bytes is 0 where it depends on the size
  Rank self;
};

// Random, so never reused: one for each incarnation of a process.
MemberId new_member_id();

// Equal for two processes exactly when they can share memory by passing descriptors over Unix sockets and see each
// other's pids: a hash of boot id, process, network and IPC namespaces.
Result<std::uint64_t> this_host();

// The host to listen at for other hosts, numeric; empty where none can be in the job (the store is on a Unix socket,
// and the transport is not tcp). The address by which the store is reached, or one of options.socket_interface.
Result<std::string> own_tcp_host(const Options& options);

// `store` may be null for size 1. Ends by options.start_timeout_ms (plus the store's own patience): then the error, the
// same on every rank, names the ranks that did not come. Two values of HORA_SIZE in one job, a rank out of range, a
// rank that came twice, or a transport that does not reach all, are errors too. The transport is the one that rank 0
// asks for, else shm where all founders share a host, else mixed.
Result<Founding> agree(const Options& options, Store* store, const Clock& clock, const Member& self);

// What a newcomer can know of a job before it has met a member.
struct RunningJob {
  AgreedConfig config;  // as founded, see Founding
  // The founders and all who came later, but before this newcomer. Some may be dead: they refuse to be dialed. Who
  // comes after this newcomer dials it.
  std::vector<Member> members;
};

// Waits for the founders, at most options.start_timeout_ms, and lists `self` among those who came.
Result<RunningJob> find_members(const Options& options, Store& store, const Clock& clock, const Member& self);

}  // namespace hora::engine
