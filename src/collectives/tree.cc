// Binomial tree: in each round everyone who has the data hands it to one who has not.
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
  int bit = 1;
  while (bit < size && (distance & bit) == 0) bit *= 2;
  if (distance != 0) builder.receive(rank_at(distance - bit), result);
  for (int below = bit / 2; below >= 1; below /= 2)
    if (distance + below < size) builder.send(rank_at(distance + below), distance == 0 ? input : result);
  if (distance == 0) builder.copy(result, input);
  return std::move(builder).take();
}

}  // namespace hora::collectives
