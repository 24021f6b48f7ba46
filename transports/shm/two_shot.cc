// Allreduce through cache-resident chunks: rank r reduces slice r of each chunk straight from its peers' in-stages and
// its own source, and writes it from registers to its target and its out-stage; all others take it from there. The own
// slice is never staged. Chunk c + 1 is copied in while chunk c is reduced and chunk c - 1 gathered.
//
// Unit = (chunk, slice): DONE when its owner has stored it. An in-place slice is overwritten only then, by its owner at
// once and by the others when they gather it, so inputs of units that nobody reduced stay intact.
#include <cstring>

#include "transports/shm/group.h"

namespace hora::shm {

void ShmGroup::copy_in(ChannelState& state) noexcept {
  const std::uint64_t chunk = state.copied;
  const Chunking& cut = state.chunking;
  std::byte* stage = own_.in_stage(state.channel, chunk);
  const std::size_t first = cut.begin(chunk);
  const auto copy = [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
    std::memcpy(stage + (at - first), extent.source + offset, length);
  };
  const ExtentList::Range own = cut.slice(chunk, rank_);
  state.extents.for_each(first, own.begin, copy);
  state.extents.for_each(own.end, cut.end(chunk), copy);
  publish_progress(state, own_progress(state).copied, ++state.copied);
  ++moves_;
}

void ShmGroup::reduce_own_slice(ChannelState& state) noexcept {
  const std::uint64_t chunk = state.stored;
  const Chunking& cut = state.chunking;
  const ExtentList::Range own = cut.slice(chunk, rank_);
  std::byte* out = own_.out_stage(state.channel, chunk);
  const collectives::ReduceKernel kernel = kernel_of(state.signature);
  const int divisor = state.signature.op == ReduceOp::average ? size_ : 1;
  const std::size_t first = cut.begin(chunk);
  state.extents.for_each(
      own.begin, own.end, [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
        for (int rank = 0; rank < size_; ++rank) {
          state.sources[static_cast<std::size_t>(rank)] =
              rank == rank_ ? extent.source + offset
                            : members_[static_cast<std::size_t>(rank)]->in_stage(state.channel, chunk) + (at - first);
        }
        kernel(extent.target + offset, out + (at - own.begin), state.sources.data(), size_,
               length / size_of(state.signature.dtype), divisor);
      });
  publish_progress(state, own_progress(state).stored, ++state.stored);
  ++moves_;
}

// The next slice of `rank` that this member lacks; it must be stored.
void ShmGroup::gather_slice(ChannelState& state, int rank) noexcept {
  ChannelState::Peer& peer = state.peers[static_cast<std::size_t>(rank)];
  const ExtentList::Range slice = state.chunking.slice(peer.taken, rank);
  const std::byte* out = members_[static_cast<std::size_t>(rank)]->out_stage(state.channel, peer.taken);
  state.extents.for_each(slice.begin, slice.end,
                         [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
                           std::memcpy(extent.target + offset, out + (at - slice.begin), length);
                         });
  ++peer.taken;
  ++moves_;
}

// At most one chunk of each kind of work, so that the caller can look at its abort word soon.
bool ShmGroup::step_two_shot(ChannelState& state) noexcept {
  see_peers(state);
  const std::uint64_t chunks = state.chunking.chunks;
  // The slot of chunk c was chunk c - kChunkSlots's, which peers must have reduced.
  if (state.copied < chunks && least_of_peers(state, &ChannelState::Peer::stored) + kChunkSlots > state.copied)
    copy_in(state);
  if (state.stored < state.copied && least_of_peers(state, &ChannelState::Peer::copied) > state.stored &&
      least_of_peers(state, &ChannelState::Peer::gathered) + kChunkSlots > state.stored)
    reduce_own_slice(state);
  for (int i = 1; i < size_; ++i) {
    const int rank = (rank_ + i) % size_;
    if (state.peers[static_cast<std::size_t>(rank)].taken < state.peers[static_cast<std::size_t>(rank)].stored)
      gather_slice(state, rank);
  }
  if (const std::uint64_t taken = least_of_peers(state, &ChannelState::Peer::taken); taken > state.gathered)
    publish_progress(state, own_progress(state).gathered, state.gathered = taken);
  return state.stored == chunks && state.gathered == chunks;
}

}  // namespace hora::shm
