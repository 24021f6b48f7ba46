// Binomial tree: in each round everyone who has the data hands it to one who has not.
#include <bit>

#include "collectives/algorithms.h"

namespace hora::collectives {

Schedule tree_broadcast(const Shape& shape) {
  const int size = shape.size;
  const int distance = (shape.rank.value - shape.root.value + size) % size;  // from the root
  const auto rank_at = [&](int from_root) { return (shape.root.value + from_root) % size; };
  const Region input{Buffer::input, 0, shape.count};
  const Region result{Buffer::result, 0, shape.count};
  ScheduleBuilder builder(shape, shape.count, 0);
  // The parent differs in the lowest set bit; the children in one of the bits below it.
  std::uint32_t round = 0;
  for (int bit = static_cast<int>(std::bit_ceil(static_cast<unsigned>(size))) / 2; bit >= 1; bit /= 2) {
    builder.begin_round(round++);
    const int step = distance % (2 * bit);
    if (step == bit) builder.receive(rank_at(distance - bit), result);
    if (step == 0 && distance + bit < size) builder.send(rank_at(distance + bit), distance == 0 ? input : result);
  }
  if (distance == 0) builder.copy(result, input);
  return std::move(builder).take();
}

}  // namespace hora::collectives
