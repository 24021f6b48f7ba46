// Two rounds: slice j of everybody goes to rank j, which reduces it in rank order and sends it to everybody.
#include "collectives/algorithms.h"

namespace hora::collectives {

Schedule pairwise_allreduce(const Shape& shape) {
  const int rank = shape.rank.value;
  const int size = shape.size;
  const auto cut = [&](Buffer buffer, int index) { return slice(buffer, shape.count, size, index); };
  const Region own = cut(Buffer::result, rank);
  ScheduleBuilder builder(shape, shape.count, static_cast<std::uint64_t>(size - 1) * own.count);
  for (int i = 1; i < size; ++i) {
    const int peer = (rank + i) % size;
    builder.send(peer, cut(Buffer::input, peer));
  }
  std::vector<Region> sources;
  std::uint64_t arrived = 0;
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) {
      sources.push_back(cut(Buffer::input, rank));
      continue;
    }
    sources.push_back({Buffer::scratch, own.count * arrived++, own.count});
    builder.receive(peer, sources.back());
  }
  builder.reduce(own, sources, true);
  builder.begin_round(1);
  for (int i = 1; i < size; ++i) builder.send((rank + i) % size, own);
  for (int i = 1; i < size; ++i) {
    const int peer = (rank + size - i) % size;
    builder.receive(peer, cut(Buffer::result, peer));
  }
  return std::move(builder).take();
}

}  // namespace hora::collectives
