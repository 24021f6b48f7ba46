#include "collectives/schedule.h"

#include <algorithm>

namespace hora::collectives {

ScheduleBuilder::ScheduleBuilder(const Shape& shape, std::uint64_t result_count, std::uint64_t scratch_count)
    : sent_(static_cast<std::size_t>(shape.size)), received_(static_cast<std::size_t>(shape.size)) {
  schedule_.result_count = result_count;
  schedule_.scratch_count = scratch_count;
}

void ScheduleBuilder::send(int peer, Region source) {
  if (source.count == 0) return;
  Move& move = append(Action::send, {&source, 1});
  move.peer = Rank{peer};
  move.message = sent_[static_cast<std::size_t>(peer)]++;
}

void ScheduleBuilder::receive(int peer, Region target) {
  if (target.count == 0) return;
  Move& move = append(Action::receive, {});
  move.peer = Rank{peer};
  move.message = received_[static_cast<std::size_t>(peer)]++;
  move.target = target;
}

void ScheduleBuilder::reduce(Region target, std::span<const Region> sources, bool last) {
  if (target.count == 0) return;
  Move& move = append(Action::reduce, sources);
  move.target = target;
  move.last = last;
}

void ScheduleBuilder::copy(Region target, Region source) {
  if (target.count == 0) return;
  append(Action::copy, {&source, 1}).target = target;
}

Move& ScheduleBuilder::append(Action action, std::span<const Region> sources) {
  Move& move = schedule_.moves.emplace_back();
  move.action = action;
  move.first_source = static_cast<std::uint32_t>(schedule_.sources.size());
  move.source_count = static_cast<std::uint32_t>(sources.size());
  schedule_.sources.insert(schedule_.sources.end(), sources.begin(), sources.end());
  return move;
}

Region slices(Buffer buffer, std::uint64_t count, int slices, int first, int last) {
  const auto parts = static_cast<std::uint64_t>(slices);
  const auto begin_of = [&](int index) {
    const auto i = static_cast<std::uint64_t>(index);
    return i * (count / parts) + std::min(i, count % parts);
  };
  return {buffer, begin_of(first), begin_of(last) - begin_of(first)};
}

Region slice(Buffer buffer, std::uint64_t count, int slices, int index) {
  return collectives::slices(buffer, count, slices, index, index + 1);
}

}  // namespace hora::collectives
