#include "cuda/nccl.h"

#include <fmt/format.h>

#include "cuda/library.h"

namespace hora::cuda {

namespace {
constexpr int kNcclVersionLeast = 21700;
}

Result<NcclFound> find_nccl() {
  auto library = Library::open("libnccl.so.2");
  if (!library.ok()) return library.status();
  NcclFound found{{}, library->path(), 0};
  Nccl& nccl = found.nccl;
  library->bind("ncclGetVersion", nccl.version);
  library->bind("ncclGetErrorString", nccl.error_text);
  library->bind("ncclGetUniqueId", nccl.unique_id);
  library->bind("ncclCommInitRankConfig", nccl.communicator_create);
  library->bind("ncclCommAbort", nccl.communicator_abort);
  library->bind("ncclCommGetAsyncError", nccl.communicator_state);
  library->bind("ncclAllReduce", nccl.allreduce);
  library->bind("ncclBroadcast", nccl.broadcast);
  library->bind_if_there("ncclCommRevoke", nccl.communicator_revoke);
  const auto refuse = [&](std::string_view why) {
    return Status(StatusCode::unsupported, fmt::format("{}: {}", found.path, why));
  };
  if (!library->missing().empty()) return refuse("it lacks " + library->missing());
  if (nccl.version(&found.version) != kNcclSuccess || found.version < kNcclVersionLeast)
    return refuse(fmt::format("it is version {}, and hora needs 2.17", nccl_version_text(found.version)));
  return found;
}

std::string nccl_version_text(int version) {
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

}  // namespace hora::cuda
