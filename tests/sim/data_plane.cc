#include "sim/data_plane.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace hora::sim {

namespace {

constexpr int kSliceElements = 2;

}  // namespace

DataPlane::DataPlane(World world, int self, const View& founding, int nodes, int elements, Random* random)
    : world_(std::move(world)),
      self_(self),
      elements_(elements),
      random_(random),
      view_(founding),
      seen_(static_cast<std::size_t>(nodes)) {
  for (Flags& flags : seen_) flags.ready = founding.epoch;
}

void DataPlane::check(bool law, Channel channel, const char* what) const {
  if (!law)
    world_.violation(fmt::format("node {} channel {} operation {} epoch {}: {}", self_, static_cast<int>(channel),
                                 done(channel) + 1, view_.epoch.value, what));
}

Contributions DataPlane::everybody() const {
  Contributions all = 0;
  for (const Member& member : view_.members) all |= Contributions{1} << member.id.value;
  return all;
}

const Slot* DataPlane::slot_of(int rank, Channel channel, std::uint64_t sequence) const {
  const Slot& slot = (*world_.memory)[node_of(rank)].slots[static_cast<std::size_t>(channel)][sequence % 2];
  return slot.epoch == view_.epoch && slot.sequence == sequence ? &slot : nullptr;
}

void DataPlane::start(Channel channel, const OperationPlan& plan) {
  Active operation;
  operation.plan = plan;
  operation.root = plan.last_root ? view_.members.back().id : view_.members.front().id;
  operation.buffer.assign(static_cast<std::size_t>(elements_), own());
  for (int element = 0; element < elements_; ++element) operation.remaining.push_back(element);
  state(channel).operation = std::move(operation);
  step(channel);
}

bool DataPlane::everybody_ready() const {
  return std::all_of(view_.members.begin(), view_.members.end(),
                     [this](const Member& member) { return seen_[member.id.value].ready >= view_.epoch; });
}

bool DataPlane::everybody_arrived(Channel channel) const {
  return std::all_of(view_.members.begin(), view_.members.end(), [&](const Member& member) {
    const SlotFlags& flags = seen_[member.id.value].of(channel, done(channel) + 1);
    return flags.epoch == view_.epoch && flags.sequence == done(channel) + 1;
  });
}

void DataPlane::step(Channel channel) {
  auto& operation = state(channel).operation;
  if (frozen_ || lost_ || !operation) return;
  if (!operation->staged) {
    if (everybody_ready()) stage(channel);
    return;
  }
  if (!everybody_arrived(channel)) return;
  if (operation->plan.chunked)
    step_chunked(channel);
  else
    step_whole(channel);
}

void DataPlane::stage(Channel channel) {
  Active& operation = *state(channel).operation;
  Segment& mine = (*world_.memory)[static_cast<std::size_t>(self_)];
  const std::uint64_t sequence = done(channel) + 1;
  Slot& slot = mine.slots[static_cast<std::size_t>(channel)][sequence % 2];
  slot = {view_.epoch, sequence, std::vector<Contributions>(operation.buffer.size(), 0),
          std::vector<Contributions>(operation.buffer.size(), 0)};
  for (const int element : operation.remaining) {
    const auto at = static_cast<std::size_t>(element);
    check(operation.buffer[at] == own(), channel, "an input was overwritten before it was staged");
    slot.staged[at] = operation.buffer[at];
  }
  operation.staged = true;
  operation.gathered.assign(view_.members.size(), 0);
  mine.flags.of(channel, sequence) = {view_.epoch, sequence, 0};
  seen_[static_cast<std::size_t>(self_)] = mine.flags;
  world_.publish();
  world_.poke(channel);
}

std::vector<Contributions> DataPlane::whole_result(const Active& operation) const {
  const Contributions result =
      operation.plan.kind == Collective::broadcast ? Contributions{1} << operation.root.value : everybody();
  return std::vector<Contributions>(operation.buffer.size(), result);
}

void DataPlane::step_whole(Channel channel) {
  const std::uint64_t sequence = done(channel) + 1;
  for (int rank = 0; rank < view_.size(); ++rank)
    if (slot_of(rank, channel, sequence) == nullptr) return;  // this one was expelled, and the others went on
  end(channel, {false, whole_result(*state(channel).operation)});
}

std::uint64_t DataPlane::units(const Active& operation) const {
  const std::size_t chunk = static_cast<std::size_t>(kSliceElements) * view_.members.size();
  return (operation.remaining.size() + chunk - 1) / chunk;
}

std::vector<int> DataPlane::unit(const Active& operation, std::uint64_t chunk, int rank) const {
  std::vector<int> elements;
  const std::size_t first =
      (chunk * view_.members.size() + static_cast<std::size_t>(rank)) * static_cast<std::size_t>(kSliceElements);
  for (std::size_t at = first; at < first + kSliceElements && at < operation.remaining.size(); ++at)
    elements.push_back(operation.remaining[at]);
  return elements;
}

std::uint64_t DataPlane::seen_units(int rank, Channel channel) const {
  return seen_[node_of(rank)].of(channel, done(channel) + 1).reduced;
}

// Reduces one unit of the own slice, or gathers one of somebody else's, whatever comes first.
void DataPlane::step_chunked(Channel channel) {
  Active& operation = *state(channel).operation;
  const std::uint64_t all = units(operation);
  const int me = my_rank();
  std::vector<int> possible;
  for (int rank = 0; rank < view_.size(); ++rank) {
    const std::uint64_t available = rank == me ? all : seen_units(rank, channel);
    if (operation.gathered[static_cast<std::size_t>(rank)] < available) possible.push_back(rank);
  }
  if (!possible.empty()) {
    const int rank = possible[random_->below(possible.size())];
    if (rank == me)
      reduce_unit(channel);
    else if (!gather_unit(channel, operation.gathered[static_cast<std::size_t>(rank)]++, rank))
      return;  // expelled: nothing comes any more
    world_.poke(channel);
    return;
  }
  const bool complete = std::all_of(operation.gathered.begin(), operation.gathered.end(),
                                    [all](std::uint64_t count) { return count == all; });
  if (complete) end(channel, {false, operation.buffer});
}

void DataPlane::reduce_unit(Channel channel) {
  Active& operation = *state(channel).operation;
  Segment& mine = (*world_.memory)[static_cast<std::size_t>(self_)];
  const std::uint64_t sequence = done(channel) + 1;
  std::uint64_t& count = operation.gathered[static_cast<std::size_t>(my_rank())];
  for (const int element : unit(operation, count, my_rank())) {
    const auto at = static_cast<std::size_t>(element);
    Contributions sum = 0;
    for (int rank = 0; rank < view_.size(); ++rank) {
      const Slot* slot = slot_of(rank, channel, sequence);
      if (slot == nullptr) return;  // this one was expelled, and the others went on
      sum |= slot->staged[at];
    }
    check(sum == everybody(), channel, "a reduced element is not made of exactly the members of its view");
    mine.slots[static_cast<std::size_t>(channel)][sequence % 2].reduced[at] = sum;
    operation.buffer[at] = sum;
  }
  mine.flags.of(channel, sequence).reduced = ++count;
  seen_[static_cast<std::size_t>(self_)] = mine.flags;
  world_.publish();
}

bool DataPlane::gather_unit(Channel channel, std::uint64_t chunk, int rank) {
  Active& operation = *state(channel).operation;
  const Slot* slot = slot_of(rank, channel, done(channel) + 1);
  if (slot == nullptr) return false;
  for (const int element : unit(operation, chunk, rank)) {
    const auto at = static_cast<std::size_t>(element);
    check(slot->reduced[at] != 0, channel, "a unit that counts as reduced is not there");
    check(operation.buffer[at] == own() || operation.buffer[at] == slot->reduced[at], channel,
          "an element was reduced twice, with two results");
    operation.buffer[at] = slot->reduced[at];
  }
  return true;
}

void DataPlane::end(Channel channel, Outcome outcome) {
  check(!frozen_, channel, "an operation ended while frozen");
  state(channel).operation.reset();
  state(channel).outcomes.push_back(std::move(outcome));
  world_.ended(channel);
}

ChannelReport DataPlane::report(Channel channel) const {
  ChannelReport report;
  report.done = done(channel);
  const auto& operation = state(channel).operation;
  if (!operation) return report;
  report.active = true;
  report.signature.kind = operation->plan.kind;
  report.signature.dtype = DataType::float32;
  report.signature.root = view_.rank_of(operation->root).value_or(Rank{0});
  report.signature.count = static_cast<std::uint64_t>(elements_);
  report.overwrites_input = operation->plan.chunked;
  if (operation->plan.chunked && operation->staged && everybody_arrived(channel))
    for (int rank = 0; rank < view_.size(); ++rank)
      report.reduced.push_back(rank == my_rank() ? operation->gathered[static_cast<std::size_t>(rank)]
                                                 : seen_units(rank, channel));
  return report;
}

// All slots of the operation after the last that is DONE are still there. They may be gone only for one that slept
// through its own expulsion.
bool DataPlane::slots_kept(Channel channel) {
  bool kept = true;
  for (int rank = 0; rank < view_.size(); ++rank) kept = kept && slot_of(rank, channel, done(channel) + 1) != nullptr;
  lost_ = lost_ || !kept;
  check(kept || world_.expelled(), channel, "a retained slot was overwritten before its operation was stable");
  return kept;
}

// A survivor has this operation DONE, so all have staged it, and all of its units are in the slots.
void DataPlane::finish_committed(Channel channel) {
  auto& operation = state(channel).operation;
  const bool staged = operation && operation->staged;
  check(staged, channel, "it is committed, but was not started here");
  if (!staged) return;
  if (!slots_kept(channel)) return;
  if (operation->plan.chunked) {
    take_units(channel, std::vector<std::uint64_t>(view_.members.size(), units(*operation)));
    end(channel, {false, operation->buffer});
  } else {
    end(channel, {false, whole_result(*operation)});
  }
}

void DataPlane::take_units(Channel channel, const std::vector<std::uint64_t>& reduced) {
  Active& operation = *state(channel).operation;
  std::vector<int> committed;
  for (int rank = 0; rank < view_.size(); ++rank)
    for (std::uint64_t chunk = 0; chunk < reduced[static_cast<std::size_t>(rank)]; ++chunk) {
      check(gather_unit(channel, chunk, rank), channel, "the slot of a committed unit was overwritten");
      for (const int element : unit(operation, chunk, rank)) committed.push_back(element);
    }
  std::erase_if(operation.remaining,
                [&](int element) { return std::find(committed.begin(), committed.end(), element) != committed.end(); });
}

void DataPlane::install(const View& next, std::span<const ChannelVerdict> verdicts) {
  frozen_ = false;
  for (std::size_t index = 0; index < kChannelCount; ++index) {
    const auto channel = static_cast<Channel>(index);
    const ChannelVerdict& verdict = verdicts[index];
    auto& operation = state(channel).operation;
    if (done(channel) < verdict.committed) finish_committed(channel);
    if (lost_) return;
    check(done(channel) == verdict.committed, channel, "it is not where the verdict puts every survivor");
    if (verdict.next == Fate::broken) {
      end(channel, {true, {}});
    } else if (verdict.next == Fate::resume) {
      check(operation && operation->staged, channel, "it is resumed, but was not started here");
      if (operation && operation->staged && slots_kept(channel)) take_units(channel, verdict.reduced);
    }
    if (lost_) return;
    if (operation) operation->staged = false;
  }
  view_ = next;
  make_ready();
}

void DataPlane::enter(const View& next, std::span<const ChannelVerdict> verdicts, ChannelPast past) {
  for (std::size_t index = 0; index < kChannelCount; ++index) {
    const auto channel = static_cast<Channel>(index);
    state(channel).outcomes = std::move(past[index]);
    check(done(channel) == verdicts[index].committed, channel, "a newcomer enters with the state of another boundary");
    check(verdicts[index].next == Fate::redo, channel, "a newcomer enters while an operation is under way");
  }
  view_ = next;
  make_ready();
}

void DataPlane::make_ready() {
  Segment& mine = (*world_.memory)[static_cast<std::size_t>(self_)];
  mine.flags.ready = view_.epoch;
  seen_[static_cast<std::size_t>(self_)] = mine.flags;
  world_.publish();
  for (std::size_t index = 0; index < kChannelCount; ++index) world_.poke(static_cast<Channel>(index));
}

}  // namespace hora::sim
