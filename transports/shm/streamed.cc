// Broadcast and allgather of long payloads: senders store chunk after chunk into their out-stages, the others take
// them. The last chunks stay there until the next operation, which is enough for whoever is behind: a sender overwrites
// a slot only after everybody has taken it.
#include <cstring>

#include "transports/shm/group.h"

namespace hora::shm {
namespace {

bool is_sender(const Signature& signature, int rank) noexcept {
  return signature.kind != Collective::broadcast || signature.root.value == rank;
}

}  // namespace

void ShmGroup::store_chunk(ChannelState& state) noexcept {
  const std::uint64_t chunk = state.stored;
  const std::size_t first = state.chunking.begin(chunk);
  std::byte* out = own_.out_stage(state.channel, chunk);
  const bool keep = state.signature.kind == Collective::allgather;
  state.extents.for_each(first, state.chunking.end(chunk),
                         [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
                           std::memcpy(out + (at - first), extent.source + offset, length);
                           std::byte* own = extent.target + static_cast<std::size_t>(rank_) * extent.bytes;
                           if (keep && own != extent.source) std::memcpy(own + offset, extent.source + offset, length);
                         });
  publish_progress(state, own_progress(state).stored, ++state.stored);
  ++moves_;
}

// The next chunk of `rank` that this member lacks; it must be stored.
void ShmGroup::take_chunk(ChannelState& state, int rank) noexcept {
  ChannelState::Peer& peer = state.peers[static_cast<std::size_t>(rank)];
  const std::size_t first = state.chunking.begin(peer.taken);
  const std::byte* out = members_[static_cast<std::size_t>(rank)]->out_stage(state.channel, peer.taken);
  const std::size_t place = state.signature.kind == Collective::allgather ? static_cast<std::size_t>(rank) : 0;
  state.extents.for_each(first, state.chunking.end(peer.taken),
                         [&](const Extent& extent, std::size_t offset, std::size_t length, std::size_t at) {
                           std::memcpy(extent.target + place * extent.bytes + offset, out + (at - first), length);
                         });
  ++peer.taken;
  ++moves_;
}

bool ShmGroup::step_streamed(ChannelState& state) noexcept {
  see_peers(state);
  const std::uint64_t chunks = state.chunking.chunks;
  const bool sends = is_sender(state.signature, rank_);
  if (sends && state.stored < chunks &&
      least_of_peers(state, &ChannelState::Peer::gathered) + kChunkSlots > state.stored)
    store_chunk(state);
  std::uint64_t least = chunks;
  for (int i = 1; i < size_; ++i) {
    const int rank = (rank_ + i) % size_;
    ChannelState::Peer& peer = state.peers[static_cast<std::size_t>(rank)];
    if (!is_sender(state.signature, rank)) continue;
    if (peer.taken < peer.stored) take_chunk(state, rank);
    least = std::min(least, peer.taken);
  }
  if (least > state.gathered) publish_progress(state, own_progress(state).gathered, state.gathered = least);
  return (!sends || state.stored == chunks) && state.gathered == chunks;
}

}  // namespace hora::shm
