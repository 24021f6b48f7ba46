// How a process joins a job and behaves in it. Every field has a default; each names the environment variable that sets
// it in Options::from_environment(). Rank and size come from any launcher: hora run, mpirun of Open MPI, MPICH and
// Intel MPI, torchrun and Slurm's srun; where they are nested, from the innermost.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "hora/status.hpp"
#include "hora/view.hpp"

namespace hora {

inline constexpr std::uint32_t kChunkBytesMost = 64 << 20;
inline constexpr std::uint32_t kOneShotBytesMost = 16 << 20;

struct Options {
  int rank = 0;                   // HORA_RANK: position in the founding view
  int size = 1;                   // HORA_SIZE: members of the founding view
  std::string job = "job";        // HORA_JOB: two jobs on one machine never meet
  std::string store;              // HORA_STORE: address of the rendezvous store, tcp:HOST:PORT or unix:@NAME
  std::string secret;             // HORA_SECRET: shared by the job; authenticates every connection
  std::optional<int> local_rank;  // HORA_LOCAL_RANK: among the ranks of this host, as the launcher counts
  std::optional<int> local_size;  // HORA_LOCAL_SIZE
  // HORA_STORE, where the launcher knows nothing of hora. Used where `store` is empty and the size is not 1: rank 0
  // hosts the store, and all meet there. tcp:HOST:PORT is the store itself; at unix:@NAME (the default, named by the
  // launcher's job) rank 0 tells address and secret to processes of its own user on its own host.
  std::string meeting;
  std::string launcher;                     // which launcher was recognised, and by what; only told in messages
  std::uint32_t start_timeout_ms = 30'000;  // HORA_START_TIMEOUT_MS: all founders must have come by then
  std::uint32_t silence_ms = 3'000;         // HORA_SILENCE_MS: a mute rank is suspected after this long
  std::uint32_t stall_warning_ms = 10'000;  // HORA_STALL_WARNING_MS: who has not submitted is named after this long
  // HORA_OPERATION_TIMEOUT_MS: an operation that waits longer fails everywhere.
  std::uint32_t operation_timeout_ms = 1'800'000;
  std::uint32_t min_size = 1;             // HORA_MIN_SIZE: with fewer members work fails
  std::uint64_t fusion_bytes = 16 << 20;  // HORA_FUSION_BYTES: most bytes of one fused group; 0 turns fusion off
  std::uint32_t chunk_bytes = 0;          // HORA_CHUNK_BYTES: stage slot of one rank; 0: from the cache sizes
  std::uint32_t one_shot_bytes = 0;       // HORA_ONE_SHOT_BYTES: largest one-shot payload; 0: from the rank count
  // HORA_TRANSPORT: shm, tcp, mixed or mpi. Without it shm where all founders share a host, mixed otherwise. mpi, for
  // all ranks or none, loads the MPI plugin and initialises MPI unless the program has; the ranks then need no store.
  std::optional<Transport> transport;
  std::string mpi_plugin;              // HORA_MPI_PLUGIN: its file; empty: libhora_mpi.so beside libhora.so
  std::uint32_t sockets_per_pair = 2;  // HORA_SOCKETS_PER_PAIR: data connections of each channel between two hosts
  // HORA_SOCKET_IFNAME, in NCCL's syntax: prefixes "eth,ib", exact names "=eth0", excluded "^docker". Without it the
  // address by which the store is reached.
  std::string socket_interface;
  std::uint16_t port_first = 0;  // HORA_PORT_RANGE, "first-last": where this rank may listen; 0: any port
  std::uint16_t port_last = 0;
  int process = 0;    // HORA_PROCESS: number of this process in the output of `hora run`: a newcomer has no rank yet
  bool join = false;  // HORA_JOIN: this process joins a running job; it is in no founding view
  // HORA_JOIN_LOG_BYTES: a newcomer that lags behind by more is given up.
  std::uint64_t join_log_bytes = std::uint64_t{1} << 30;
  std::string launch_token;    // HORA_LAUNCH_TOKEN: by which the launcher learns the member id of a process it started
  bool kill_suspects = false;  // HORA_KILL_SUSPECTS: SIGKILL a mute rank of this host before expelling it

  // The values of the environment over the defaults; without a launcher a job of one. Sizes take K, M and G. A value
  // that is out of range is an error that names the variable; an unknown HORA_ name is a warning that names the nearest
  // known one.
  HORA_EXPORT static Result<Options> from_environment();
};

}  // namespace hora
