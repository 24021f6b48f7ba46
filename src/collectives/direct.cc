// One round: everybody sends everything to everybody. Least latency; every rank reduces all sources in rank order.
#include "collectives/algorithms.h"

namespace hora::collectives {

Schedule direct_allreduce(const Shape& shape) {
  const int rank = shape.rank.value;
  const auto others = static_cast<std::uint64_t>(shape.size - 1);
  const Region input{Buffer::input, 0, shape.count};
  ScheduleBuilder builder(shape, shape.count, others * shape.count);
  for (int i = 1; i < shape.size; ++i) builder.send((rank + i) % shape.size, input);
  std::vector<Region> sources;
  std::uint64_t arrived = 0;
  for (int peer = 0; peer < shape.size; ++peer) {
    if (peer == rank) {
      sources.push_back(input);
      continue;
    }
    sources.push_back({Buffer::scratch, shape.count * arrived++, shape.count});
    builder.receive(peer, sources.back());
  }
  builder.reduce({Buffer::result, 0, shape.count}, sources, true);
  return std::move(builder).take();
}

Schedule direct_allgather(const Shape& shape) {
  const int rank = shape.rank.value;
  const auto count = shape.count;
  const Region input{Buffer::input, 0, count};
  const auto part = [&](int of) { return Region{Buffer::result, static_cast<std::uint64_t>(of) * count, count}; };
  ScheduleBuilder builder(shape, static_cast<std::uint64_t>(shape.size) * count, 0);
  for (int i = 1; i < shape.size; ++i) builder.send((rank + i) % shape.size, input);
  builder.copy(part(rank), input);
  for (int i = 1; i < shape.size; ++i) {
    const int peer = (rank + shape.size - i) % shape.size;
    builder.receive(peer, part(peer));
  }
  return std::move(builder).take();
}

}  // namespace hora::collectives
