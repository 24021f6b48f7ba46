#include "collectives/schedule.h"

#include <algorithm>
#include <cassert>

namespace hora::collectives {

ScheduleBuilder::ScheduleBuilder(const Shape& shape, std::uint64_t result_count, std::uint64_t scratch_count)
    : sent_(static_cast<std::size_t>(shape.size)), received_(static_cast<std::size_t>(shape.size)) {
  schedule_.result_count = result_count;
  schedule_.scratch_count = scratch_count;
}

void ScheduleBuilder::begin_round(std::uint32_t round) {
  assert(round >= round_);
  round_ = round;
  schedule_.rounds = round + 1;
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

void ScheduleBuilder::reduce(Region target, std::span<const Region> sources, bool last, bool divides) {
  if (target.count == 0) return;
  Move& move = append(Action::reduce, sources);
  move.target = target;
  move.last = last;
  move.divides = divides;
}

void ScheduleBuilder::copy(Region target, Region source) {
  if (target.count == 0 || (target.buffer == source.buffer && target.offset == source.offset)) return;
  append(Action::copy, {&source, 1}).target = target;
}

void ScheduleBuilder::embed(const Schedule& inner, std::uint32_t inner_round, const Embedding& embedding) {
  const auto placed = [&](const Region& region) {
    const Region& base = region.buffer == Buffer::input ? embedding.input : embedding.result;
    if (region.buffer == Buffer::scratch)
      return Region{Buffer::scratch, embedding.scratch + region.offset, region.count};
    return Region{base.buffer, base.offset + region.offset, region.count};
  };
  for (const Move& move : inner.moves) {
    if (move.round != inner_round) continue;
    const int peer = move.peer.value < 0 ? -1 : embedding.ranks[static_cast<std::size_t>(move.peer.value)];
    std::vector<Region> sources;
    for (const Region& source : inner.sources_of(move)) sources.push_back(placed(source));
    const Region target = placed(move.target);
    switch (move.action) {
      case Action::send: send(peer, sources[0]); break;
      case Action::receive: receive(peer, target); break;
      case Action::reduce: reduce(target, sources, move.last, move.divides && !embedding.divided); break;
      case Action::copy: copy(target, sources[0]); break;
    }
  }
}

Move& ScheduleBuilder::append(Action action, std::span<const Region> sources) {
  Move& move = schedule_.moves.emplace_back();
  move.action = action;
  move.round = round_;
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
