// What the chunked algorithms share: the cut into chunks, and the progress that members tell each other.
#include "transports/shm/group.h"

namespace hora::shm {

void ShmGroup::cut_chunks(ChannelState& state) noexcept {
  Chunking& cut = state.chunking;
  cut.bytes = state.extents.bytes();
  cut.parts = size_;
  cut.chunk =
      state.algorithm == Algorithm::two_shot ? chunk_bytes_ : std::min(chunk_bytes_, out_slot_bytes(own_.layout()));
  cut.chunks = (cut.bytes + cut.chunk - 1) / cut.chunk;
  state.copied = state.stored = state.gathered = 0;
  state.peers.assign(static_cast<std::size_t>(size_), {});
  // Peers look at these only after they have seen the flag that releases them, so no count of an older operation or
  // view is taken for one of this operation.
  ProgressLine& progress = own_progress(state);
  for (std::atomic<std::uint64_t>* word : {&progress.copied, &progress.stored, &progress.gathered})
    word->store(state.sequence << 32, std::memory_order_relaxed);
}

void ShmGroup::see_peers(ChannelState& state) const noexcept {
  for (int rank = 0; rank < size_; ++rank) {
    if (rank == rank_) continue;
    const ProgressLine& line =
        members_[static_cast<std::size_t>(rank)]->lines().channels[static_cast<std::size_t>(state.channel)].progress;
    ChannelState::Peer& peer = state.peers[static_cast<std::size_t>(rank)];
    const auto read = [&](const std::atomic<std::uint64_t>& word) {
      return chunks_of(word.load(std::memory_order_acquire), state.sequence, state.chunking.chunks);
    };
    peer.copied = read(line.copied);
    peer.stored = read(line.stored);
    peer.gathered = read(line.gathered);
  }
}

void ShmGroup::publish_progress(ChannelState& state, std::atomic<std::uint64_t>& word, std::uint64_t chunks) noexcept {
  // Release: the bytes that it counts, or the reads that it ends.
  word.store((state.sequence << 32) + chunks, std::memory_order_release);
  doorbell_.published();
}

std::uint64_t ShmGroup::least_of_peers(const ChannelState& state,
                                       std::uint64_t ChannelState::Peer::*count) const noexcept {
  std::uint64_t least = ~std::uint64_t{0};
  for (int rank = 0; rank < size_; ++rank)
    if (rank != rank_) least = std::min(least, state.peers[static_cast<std::size_t>(rank)].*count);
  return least;
}

}  // namespace hora::shm
