// Everything at once: each rank stages its contribution, in the flag line where it fits, and all ranks read all of
// them. The contribution stays in its slot, so whoever is behind can finish without its peers. (DeepSpeed's
// shared-memory allreduce has the same shape; the payload in the flag line is that of Open MPI's XHC.)
#include <cstring>

#include "transports/shm/group.h"

namespace hora::shm {
namespace {

bool is_inline(std::size_t bytes) noexcept {
  return bytes <= kInlineBytes;
}

}  // namespace

void ShmGroup::stage_one_shot(ChannelState& state) noexcept {
  const std::size_t bytes = state.extents.bytes();
  if (bytes == 0 || size_ == 1) return;
  if (state.signature.kind == Collective::broadcast && state.signature.root.value != rank_) return;
  std::byte* stage = is_inline(bytes) ? own_flag(state).payload : own_.one_shot_stage(state.channel, state.sequence);
  state.extents.for_each(0, bytes, [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
    std::memcpy(stage + at, extent.source + offset, length);
  });
}

void ShmGroup::consume_one_shot(ChannelState& state) noexcept {
  const std::size_t bytes = state.extents.bytes();
  if (bytes == 0) return;
  const auto stage_of = [&](int rank) -> const std::byte* {
    return is_inline(bytes) ? flag_of(rank, state).payload
                            : members_[static_cast<std::size_t>(rank)]->one_shot_stage(state.channel, state.sequence);
  };
  const Signature& signature = state.signature;
  if (size_ == 1) {
    if (signature.kind == Collective::broadcast) return;
    state.extents.for_each(0, bytes, [](const Extent& extent, std::size_t offset, std::size_t length, std::size_t) {
      if (extent.target != extent.source) std::memcpy(extent.target + offset, extent.source + offset, length);
    });
  } else if (signature.kind == Collective::allreduce) {
    const collectives::ReduceKernel kernel = kernel_of(signature);
    const int divisor = signature.op == ReduceOp::average ? size_ : 1;
    state.extents.for_each(0, bytes, [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
      for (int rank = 0; rank < size_; ++rank) state.sources[static_cast<std::size_t>(rank)] = stage_of(rank) + at;
      kernel(extent.target + offset, nullptr, state.sources.data(), size_, length / size_of(signature.dtype), divisor);
    });
  } else if (signature.kind == Collective::broadcast) {
    if (signature.root.value == rank_) return;
    const std::byte* stage = stage_of(signature.root.value);
    state.extents.for_each(0, bytes, [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
      std::memcpy(extent.target + offset, stage + at, length);
    });
  } else {
    for (int rank = 0; rank < size_; ++rank) {
      const std::byte* stage = stage_of(rank);
      state.extents.for_each(
          0, bytes, [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
            std::memcpy(extent.target + static_cast<std::size_t>(rank) * extent.bytes + offset, stage + at, length);
          });
    }
  }
}

}  // namespace hora::shm
