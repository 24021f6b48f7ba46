#include "recovery_world.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "collectives/recovery.h"

namespace hora::conformance {
namespace {

// Moves per rank after which ranks are said to hang: far more than the tasks of any test take.
constexpr int kPatience = 20'000;

MemberId id_of(int founding_rank) {
  return founding_member(founding_rank);
}
int founding_rank_of(MemberId id) {
  return static_cast<int>(id.value - id_of(0).value);
}

// Differs between neighbouring elements, and between operations.
std::int64_t factor(std::size_t channel, std::size_t index, std::uint64_t element) {
  return static_cast<std::int64_t>(1 + element % 97 + 100 * index + 10'000 * channel);
}

std::uint64_t mask_of(const View& view) {
  std::uint64_t mask = 0;
  for (const Member& member : view.members) mask |= std::uint64_t{1} << founding_rank_of(member.id);
  return mask;
}

}  // namespace

// One rank with the memory of its caller.
struct RecoveryWorld::Player {
  struct Lane {
    std::size_t next = 0;  // index of the operation that is active or comes next
    bool active = false;
    std::optional<std::size_t> broken;  // ends as broken when its turn has come
    std::vector<Outcome> outcomes;
    std::vector<std::vector<std::int64_t>> sources, targets;
    std::vector<char> released_source;  // the root of a broadcast holds the result in its source
    std::vector<Extent> extents;        // of the active operation
  };
  int founding_rank = 0;
  GroupTransport* group = nullptr;
  bool alive = true;
  int moves = 0;
  View view;
  std::array<Lane, kChannelCount> lanes;

  void prepare(std::size_t channel, const Task& task, int founding_size);
  Operation operation(std::size_t channel, const Task& task);
  void end(std::size_t channel, const Task& task, Outcome::Kind kind);
  // The result of an operation in the memory of the caller, as it is now.
  [[nodiscard]] std::vector<std::int64_t> released(std::size_t channel, std::size_t index, const Task& task,
                                                   int contributors) const;
};

void RecoveryWorld::Player::prepare(std::size_t channel, const Task& task, int founding_size) {
  Lane& lane = lanes[channel];
  const std::uint64_t count = task.count + (task.deviant == founding_rank ? 1 : 0);
  const std::uint64_t parts = task.kind == Collective::allgather ? static_cast<std::uint64_t>(founding_size) : 1;
  std::vector<std::int64_t> input(count);
  for (std::uint64_t i = 0; i < count; ++i) input[i] = factor(channel, lane.next, i) << founding_rank;
  lane.targets.push_back(task.in_place ? input : std::vector<std::int64_t>(parts * count, -1));
  lane.sources.push_back(std::move(input));
  lane.released_source.push_back(0);
}

Operation RecoveryWorld::Player::operation(std::size_t channel, const Task& task) {
  Lane& lane = lanes[channel];
  Operation operation{static_cast<Channel>(channel), lane.next + 1, {}, {}};
  if (task.kind == Collective::barrier) return operation;
  Signature& signature = operation.signature;
  signature.kind = task.kind;
  signature.dtype = DataType::int64;
  signature.count = lane.sources.back().size();
  if (task.kind == Collective::broadcast) {
    signature.root = view.rank_of(id_of(task.root)).value_or(Rank{0});
    lane.released_source.back() = !task.in_place && view.rank_of(id_of(founding_rank)) == signature.root;
  }
  const auto& source = task.in_place ? lane.targets.back() : lane.sources.back();
  lane.extents = {{reinterpret_cast<const std::byte*>(source.data()),
                   reinterpret_cast<std::byte*>(lane.targets.back().data()), signature.count * sizeof(std::int64_t)}};
  operation.extents = lane.extents;
  return operation;
}

std::vector<std::int64_t> RecoveryWorld::Player::released(std::size_t channel, std::size_t index, const Task& task,
                                                          int contributors) const {
  const Lane& lane = lanes[channel];
  std::vector<std::int64_t> result = lane.released_source[index] != 0 ? lane.sources[index] : lane.targets[index];
  if (task.kind == Collective::barrier) result.clear();
  if (task.kind == Collective::allgather) result.resize(static_cast<std::size_t>(contributors) * task.count);
  return result;
}

void RecoveryWorld::Player::end(std::size_t channel, const Task& task, Outcome::Kind kind) {
  Lane& lane = lanes[channel];
  Outcome outcome{kind, {}, 0};
  if (kind == Outcome::Kind::done) {
    outcome.contributors = group->contributors(static_cast<Channel>(channel));
    outcome.result = released(channel, lane.next, task, outcome.contributors);
  }
  lane.outcomes.push_back(std::move(outcome));
  lane.active = false;
  ++lane.next;
}

RecoveryWorld::RecoveryWorld(const Implementation& implementation, int size,
                             std::array<std::vector<Task>, kChannelCount> tasks, std::uint64_t seed)
    : tasks_(std::move(tasks)), random_(seed), job_(implementation.make(founding_view(implementation, size))) {
  views_.push_back(founding_view(implementation, size));
  for (int rank = 0; rank < size; ++rank) {
    Player& player = *players_.emplace_back(std::make_unique<Player>());
    player.founding_rank = rank;
    player.group = &job_->group(rank);
    player.view = views_.back();
  }
}

RecoveryWorld::~RecoveryWorld() = default;

bool RecoveryWorld::is_through(const Player& player) const {
  for (std::size_t channel = 0; channel < tasks_.size(); ++channel)
    if (player.lanes[channel].next < tasks_[channel].size()) return false;
  return true;
}

bool RecoveryWorld::move(int rank) {
  Player& player = *players_[static_cast<std::size_t>(rank)];
  if (!player.alive) return false;
  if (is_through(player)) return player.group->settle(), false;
  std::size_t channel = random_.below(kChannelCount);
  if (player.lanes[channel].next == tasks_[channel].size()) channel = 1 - channel;
  Player::Lane& lane = player.lanes[channel];
  const Task& task = tasks_[channel][lane.next];
  ++player.moves;
  Step step{};
  if (lane.active) {
    step = player.group->step(static_cast<Channel>(channel));
  } else {
    player.prepare(channel, task, static_cast<int>(players_.size()));
    lane.active = true;
    step = player.group->start(player.operation(channel, task));
  }
  check_stable(player);
  if (step == Step::pending) return true;
  player.end(channel, task, step == Step::done ? Outcome::Kind::done : Outcome::Kind::mismatch);
  if (lane.broken == lane.next) end_broken(player, channel);
  return true;
}

// The operation ends for its caller, who may not even have called it yet.
void RecoveryWorld::end_broken(Player& player, std::size_t channel) {
  Player::Lane& lane = player.lanes[channel];
  const Task& task = tasks_[channel][lane.next];
  if (!lane.active) player.prepare(channel, task, static_cast<int>(players_.size()));
  player.end(channel, task, Outcome::Kind::broken);
  lane.broken.reset();
}

void RecoveryWorld::move_any(int moves) {
  for (int i = 0; i < moves; ++i) move(static_cast<int>(random_.below(players_.size())));
}

int RecoveryWorld::moves_of(int rank) const {
  return players_[static_cast<std::size_t>(rank)]->moves;
}

void RecoveryWorld::stop(int rank, bool lose_in_flight) {
  players_[static_cast<std::size_t>(rank)]->alive = false;
  job_->stop(rank, lose_in_flight);
}

void RecoveryWorld::leave(int rank, bool lose_in_flight) {
  left_[id_of(rank)] = report_of(*players_[static_cast<std::size_t>(rank)]);
  stop(rank, lose_in_flight);
}

std::vector<ChannelReport> RecoveryWorld::report_of(const Player& player) {
  std::vector<ChannelReport> report;
  for (int channel = 0; channel < kChannelCount; ++channel)
    report.push_back(player.group->report(static_cast<Channel>(channel)));
  return report;
}

// What a rank says is DONE at all of them is.
void RecoveryWorld::check_stable(const Player& player) {
  for (const Channel channel : {Channel::ordered, Channel::negotiated}) {
    const std::uint64_t stable = player.group->stable(channel);
    for (const Player* other : survivors())
      if (stable > other->group->report(channel).done)
        stable_fault_ = fmt::format("rank {} says that operation {} of channel {} is stable, which rank {} awaits",
                                    player.founding_rank, stable, static_cast<int>(channel), other->founding_rank);
  }
}

void RecoveryWorld::recover(int moves_between, std::optional<SecondStop> second) {
  View next = views_.back();
  ++next.epoch.value;
  std::erase_if(next.members, [&](const Member& member) {
    return !players_[static_cast<std::size_t>(founding_rank_of(member.id))]->alive;
  });
  auto reports = std::exchange(left_, {});
  for (const Player* player : survivors()) reports[id_of(player->founding_rank)] = report_of(*player);
  const std::vector<ChannelVerdict> verdicts = recovery::decide(views_.back(), next, reports);
  views_.push_back(next);

  std::vector<int> frozen;
  for (const Player* player : survivors()) frozen.push_back(player->founding_rank);
  for (int installs = 0; !frozen.empty(); ++installs) {
    if (second && second->after_installs == installs) {
      stop(second->rank, installs % 2 == 0);
      std::erase(frozen, second->rank);
      if (frozen.empty()) break;
    }
    const auto chosen = frozen.begin() + static_cast<std::ptrdiff_t>(random_.below(frozen.size()));
    install(*players_[static_cast<std::size_t>(*chosen)], next, verdicts);
    frozen.erase(chosen);
    for (int i = 0; i < moves_between; ++i) {
      const auto rank = static_cast<int>(random_.below(players_.size()));
      if (std::ranges::find(frozen, rank) == frozen.end()) move(rank);
    }
  }
}

void RecoveryWorld::install(Player& player, const View& next, const std::vector<ChannelVerdict>& verdicts) {
  player.group->install(next, verdicts);
  player.view = next;
  for (std::size_t channel = 0; channel < verdicts.size(); ++channel) {
    if (verdicts[channel].next != Fate::broken) continue;
    Player::Lane& lane = player.lanes[channel];
    lane.broken = verdicts[channel].committed;  // the index of operation committed + 1
    if (lane.broken == lane.next) end_broken(player, channel);
  }
}

bool RecoveryWorld::finish() {
  for (int turn = 0; turn < kPatience; ++turn) {
    move_any(static_cast<int>(players_.size()));
    if (std::ranges::all_of(survivors(), [&](const Player* player) { return is_through(*player); })) return true;
  }
  return false;
}

std::vector<const RecoveryWorld::Player*> RecoveryWorld::survivors() const {
  std::vector<const Player*> alive;
  for (const auto& player : players_)
    if (player->alive) alive.push_back(player.get());
  return alive;
}

int RecoveryWorld::count(Outcome::Kind kind) const {
  int ended = 0;
  for (const Player::Lane& lane : survivors().front()->lanes)
    ended += static_cast<int>(std::ranges::count(lane.outcomes, kind, &Outcome::kind));
  return ended;
}

std::string RecoveryWorld::fault() const {
  if (!stable_fault_.empty()) return stable_fault_;
  for (std::size_t channel = 0; channel < tasks_.size(); ++channel)
    for (std::size_t index = 0; index < tasks_[channel].size(); ++index)
      if (std::string fault = fault_of(channel, index); !fault.empty())
        return fmt::format("channel {}, operation {} ({} of {}): {}", channel, index + 1,
                           to_string(tasks_[channel][index].kind), tasks_[channel][index].count, fault);
  return {};
}

std::string RecoveryWorld::fault_of(std::size_t channel, std::size_t index) const {
  const auto alive = survivors();
  const Task& task = tasks_[channel][index];
  const Outcome& first = alive.front()->lanes[channel].outcomes[index];
  for (const Player* player : alive) {
    const Outcome& outcome = player->lanes[channel].outcomes[index];
    if (outcome.kind != first.kind) return fmt::format("ends otherwise at rank {}", player->founding_rank);
    if (outcome != first) return fmt::format("has another result at rank {}", player->founding_rank);
    if (outcome.kind == Outcome::Kind::done &&
        player->released(channel, index, task, outcome.contributors) != outcome.result)
      return fmt::format("changed at rank {} after it was released", player->founding_rank);
  }
  const bool deviant_survives =
      task.deviant >= 0 && std::ranges::find(alive, task.deviant, &Player::founding_rank) != alive.end();
  switch (first.kind) {
    case Outcome::Kind::done: return deviant_survives ? "hides a mismatch" : result_fault(channel, index, first);
    case Outcome::Kind::mismatch: return task.deviant >= 0 ? "" : "is a mismatch where none is";
    case Outcome::Kind::broken:
      return views_.size() > 1 && (task.kind == Collective::allgather || task.kind == Collective::broadcast)
                 ? ""
                 : "is broken without a reason";
  }
  return {};
}

std::string RecoveryWorld::result_fault(std::size_t channel, std::size_t index, const Outcome& outcome) const {
  const Task& task = tasks_[channel][index];
  if (task.kind == Collective::barrier) return {};
  const bool is_gather = task.kind == Collective::allgather;
  const View* of = nullptr;  // the view in which a gather was made
  for (const View& view : views_)
    if (view.size() == outcome.contributors) of = &view;
  if (of == nullptr) return fmt::format("has {} contributors, as many as no view", outcome.contributors);
  if (outcome.result.size() != (is_gather ? static_cast<std::size_t>(of->size()) : 1) * task.count)
    return "has a wrong size";
  for (std::size_t i = 0; i < outcome.result.size(); ++i) {
    const std::int64_t unit = factor(channel, index, i % task.count);
    const auto mask = static_cast<std::uint64_t>(outcome.result[i] / unit);
    bool right = outcome.result[i] > 0 && outcome.result[i] % unit == 0;
    switch (task.kind) {
      case Collective::allreduce:
        right = right && std::ranges::any_of(views_, [&](const View& view) { return mask_of(view) == mask; });
        break;
      case Collective::broadcast:
        right = right && std::has_single_bit(mask) &&
                outcome.result[i] == outcome.result[0] / factor(channel, index, 0) * unit &&
                (mask == std::uint64_t{1} << task.root || std::ranges::any_of(views_, [&](const View& view) {
                   return !view.rank_of(id_of(task.root)) && mask == std::uint64_t{1}
                                                                         << founding_rank_of(view.members[0].id);
                 }));
        break;
      case Collective::allgather:
        right = right && mask == std::uint64_t{1} << founding_rank_of(of->members[i / task.count].id);
        break;
      case Collective::barrier: break;
    }
    if (!right)
      return fmt::format("element {} is {} times {:#b}, remainder {}", i, unit, mask, outcome.result[i] % unit);
  }
  return {};
}

}  // namespace hora::conformance
