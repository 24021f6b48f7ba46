// Rabenseifner's allreduce: recursive halving leaves each rank one reduced slice, recursive doubling spreads them.
// Ranks beyond a power of two fold into a partner first and receive the result last.
#include <bit>
#include <utility>

#include "collectives/algorithms.h"

namespace hora::collectives {
namespace {

// The power of two of ranks that do the work: `index` of `size`. Of the first 2 * folded ranks only the even ones do.
struct Core {
  int size;
  int folded;

  explicit Core(int ranks)
      : size(static_cast<int>(std::bit_floor(static_cast<unsigned>(ranks)))), folded(ranks - size) {}
  [[nodiscard]] int rank_of(int index) const { return index < folded ? 2 * index : index + folded; }
  [[nodiscard]] int index_of(int rank) const { return rank < 2 * folded ? rank / 2 : rank - folded; }
};

}  // namespace

Schedule halving_doubling_allreduce(const Shape& shape) {
  const Core core(shape.size);
  const int rank = shape.rank.value;
  const Region input{Buffer::input, 0, shape.count};
  const Region result{Buffer::result, 0, shape.count};
  const bool has_partner = rank < 2 * core.folded;
  const std::uint32_t halvings = static_cast<std::uint32_t>(std::countr_zero(static_cast<unsigned>(core.size)));
  const std::uint32_t last_round = 2 * halvings + 1;  // round 0 folds, this one unfolds
  ScheduleBuilder builder(shape, shape.count, shape.size > 1 ? shape.count : 0);
  if (has_partner && rank % 2 == 1) {
    builder.send(rank - 1, input);
    builder.begin_round(last_round);
    builder.receive(rank - 1, result);
    return std::move(builder).take();
  }

  Buffer held = Buffer::input;  // where this rank's partial sums are
  if (has_partner) {
    const Region partial{Buffer::scratch, 0, shape.count};
    builder.receive(rank + 1, partial);
    builder.reduce(result, std::vector{input, partial}, core.size == 1);
    held = Buffer::result;
  } else if (core.size == 1) {
    builder.reduce(result, {&input, 1}, true);
  }

  const int index = core.index_of(rank);
  int first = 0, last = core.size;  // the window of slices that is reduced here
  const auto window = [&](Buffer buffer, int from, int to) { return slices(buffer, shape.count, core.size, from, to); };
  std::uint32_t round = 0;
  for (int distance = core.size / 2; distance >= 1; distance /= 2) {
    builder.begin_round(++round);
    const int partner = core.rank_of(index ^ distance);
    const int middle = first + distance;
    const bool upper = (index & distance) != 0;
    const auto [keep_first, keep_last] = upper ? std::pair(middle, last) : std::pair(first, middle);
    builder.send(partner, upper ? window(held, first, middle) : window(held, middle, last));
    const Region own = window(held, keep_first, keep_last);
    const Region theirs{Buffer::scratch, 0, own.count};
    builder.receive(partner, theirs);
    builder.reduce(window(Buffer::result, keep_first, keep_last),
                   upper ? std::vector{theirs, own} : std::vector{own, theirs}, distance == 1);
    first = keep_first, last = keep_last;
    held = Buffer::result;
  }
  for (int distance = 1; distance < core.size; distance *= 2) {
    builder.begin_round(++round);
    const int partner = core.rank_of(index ^ distance);
    builder.send(partner, window(Buffer::result, first, last));
    const int partner_first = first ^ distance;
    builder.receive(partner, window(Buffer::result, partner_first, partner_first + distance));
    first = first & ~distance, last = first + 2 * distance;
  }
  builder.begin_round(last_round);
  if (has_partner) builder.send(rank + 1, result);
  return std::move(builder).take();
}

}  // namespace hora::collectives
