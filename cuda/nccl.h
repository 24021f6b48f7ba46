// NCCL as a table of typed function pointers, filled at run time.
//
// The declarations are hora's own, after nccl.h 2.17 to 2.30: what is used here has not changed between them.
#pragma once

#include <array>
#include <climits>
#include <cstddef>
#include <string>

#include "cuda/driver.h"
#include "hora/status.hpp"

namespace hora::cuda {

using NcclCode = int;              // ncclResult_t
using CommunicatorHandle = void*;  // ncclComm_t

inline constexpr NcclCode kNcclSuccess = 0;
inline constexpr NcclCode kNcclInternalError = 3;
inline constexpr NcclCode kNcclInProgress = 7;

// ncclUniqueId, passed by value.
struct NcclUniqueId {
  std::array<std::byte, 128> bytes;
};

// ncclDataType_t and ncclRedOp_t.
enum class NcclType : int { int8 = 0, uint8 = 1, int32 = 2, int64 = 4, float32 = 7, float64 = 8 };
enum class NcclOp : int { sum = 0, product = 1, max = 2, min = 3 };

// ncclConfig_t as of 2.17. Later versions take the fields that are not in it from their defaults.
struct NcclConfig {
  std::size_t size = sizeof(NcclConfig);
  unsigned magic = 0xcafebeef;
  unsigned version = 21700;
  int blocking = 0;
  int cga_cluster_size = INT_MIN;  // INT_MIN: not set
  int ctas_min = INT_MIN;
  int ctas_max = INT_MIN;
  const char* network = nullptr;
};

struct Nccl {
  NcclCode (*version)(int* version);
  const char* (*error_text)(NcclCode code);
  NcclCode (*unique_id)(NcclUniqueId* id);
  NcclCode (*communicator_create)(CommunicatorHandle* communicator, int size, NcclUniqueId id, int rank,
                                  NcclConfig* config);
  NcclCode (*communicator_abort)(CommunicatorHandle communicator);
  // Ends what is under way and frees nothing. Null before 2.28. `flags`: 0.
  NcclCode (*communicator_revoke)(CommunicatorHandle communicator, int flags);
  NcclCode (*communicator_state)(CommunicatorHandle communicator, NcclCode* state);
  NcclCode (*allreduce)(const void* source, void* target, std::size_t count, NcclType type, NcclOp op,
                        CommunicatorHandle communicator, StreamHandle stream);
  NcclCode (*broadcast)(const void* source, void* target, std::size_t count, NcclType type, int root,
                        CommunicatorHandle communicator, StreamHandle stream);
};

struct NcclFound {
  Nccl nccl;
  std::string path;
  int version = 0;  // 22809: 2.28.9
};
// unsupported, with the reason: no library, or one older than 2.17.
Result<NcclFound> find_nccl();

std::string nccl_version_text(int version);

}  // namespace hora::cuda
