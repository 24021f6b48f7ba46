// Patarasuk and Yuan's bandwidth-optimal ring: each slice travels once around to be reduced and once to be distributed,
// between neighbours only.
#include "collectives/algorithms.h"

namespace hora::collectives {

Schedule ring_allreduce(const Shape& shape) {
  const int size = shape.size;
  const int rank = shape.rank.value;
  const int next = (rank + 1) % size;
  const int previous = (rank + size - 1) % size;
  const auto cut = [&](Buffer buffer, int index) {
    return slice(buffer, shape.count, size, ((index % size) + size) % size);
  };
  const std::uint64_t largest = cut(Buffer::input, 0).count;
  ScheduleBuilder builder(shape, shape.count, size > 1 ? largest : 0);
  if (size == 1) {
    const Region input{Buffer::input, 0, shape.count};
    builder.reduce({Buffer::result, 0, shape.count}, {&input, 1}, true);
  }
  std::uint32_t round = 0;
  for (int step = 0; step < size - 1; ++step) {
    builder.begin_round(round++);
    builder.send(next, cut(step == 0 ? Buffer::input : Buffer::result, rank - step));
    const Region own = cut(Buffer::input, rank - step - 1);
    const Region partial{Buffer::scratch, 0, own.count};
    builder.receive(previous, partial);
    builder.reduce(cut(Buffer::result, rank - step - 1), std::vector{partial, own}, step == size - 2);
  }
  for (int step = 0; step < size - 1; ++step) {
    builder.begin_round(round++);
    builder.send(next, cut(Buffer::result, rank + 1 - step));
    builder.receive(previous, cut(Buffer::result, rank - step));
  }
  return std::move(builder).take();
}

Schedule ring_allgather(const Shape& shape) {
  const int size = shape.size;
  const int rank = shape.rank.value;
  const auto part = [&](int index) {
    const auto of = static_cast<std::uint64_t>(((index % size) + size) % size);
    return Region{Buffer::result, of * shape.count, shape.count};
  };
  const Region input{Buffer::input, 0, shape.count};
  ScheduleBuilder builder(shape, static_cast<std::uint64_t>(size) * shape.count, 0);
  for (int step = 0; step < size - 1; ++step) {
    builder.begin_round(static_cast<std::uint32_t>(step));
    builder.send((rank + 1) % size, step == 0 ? input : part(rank - step));
    builder.receive((rank + size - 1) % size, part(rank - step - 1));
  }
  builder.copy(part(rank), input);
  return std::move(builder).take();
}

}  // namespace hora::collectives
