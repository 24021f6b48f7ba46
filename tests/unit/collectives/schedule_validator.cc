#include "schedule_validator.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace hora::collectives {
namespace {

// The symbolic value of one element: an index into Expressions, equal for equal expressions. 0: never written.
using Value = std::uint32_t;

// Hash-consed expressions over "element i of rank r".
class Expressions {
 public:
  Value leaf(int rank, std::uint64_t index) {
    return intern({false, {static_cast<Value>(rank), static_cast<Value>(index)}}, true);
  }
  Value reduce(std::vector<Value> operands, bool divides) { return intern({divides, std::move(operands)}, false); }

  // The leaves of a value in order, and how often it was divided on the way to each.
  struct Leaf {
    int rank;
    std::uint64_t index;
    int divided;
  };
  void leaves(Value value, int divided, std::vector<Leaf>& out) const {
    const Node& node = nodes_[value - 1];
    if (node.is_leaf) {
      out.push_back({static_cast<int>(node.key.operands[0]), node.key.operands[1], divided});
      return;
    }
    for (const Value operand : node.key.operands) leaves(operand, divided + (node.key.divides ? 1 : 0), out);
  }

 private:
  struct Key {
    bool divides;
    std::vector<Value> operands;
    friend auto operator<=>(const Key&, const Key&) = default;
  };
  struct Node {
    Key key;
    bool is_leaf;
  };
  Value intern(Key key, bool is_leaf) {
    auto& index = is_leaf ? leaf_index_ : reduce_index_;
    const auto [found, fresh] = index.try_emplace(key, static_cast<Value>(nodes_.size() + 1));
    if (fresh) nodes_.push_back({std::move(key), is_leaf});
    return found->second;
  }
  std::vector<Node> nodes_;
  std::map<Key, Value> leaf_index_, reduce_index_;
};

class Validator {
 public:
  Validator(Collective kind, const std::vector<Schedule>& schedules, std::uint64_t count, Rank root)
      : kind_(kind), schedules_(schedules), count_(count), root_(root), size_(static_cast<int>(schedules.size())) {
    for (int rank = 0; rank < size_; ++rank) {
      State& state = states_.emplace_back();
      if (kind != Collective::barrier && (kind != Collective::broadcast || rank == root.value))
        for (std::uint64_t i = 0; i < count; ++i) state.buffers[0].push_back(expressions_.leaf(rank, i));
      state.buffers[1].assign(schedule(rank).result_count, 0);
      state.buffers[2].assign(schedule(rank).scratch_count, 0);
    }
  }

  std::string run() {
    for (bool moved = true; moved && fault_.empty();) {
      moved = false;
      for (int rank = 0; rank < size_; ++rank)
        while (fault_.empty() && states_[index(rank)].next < schedule(rank).moves.size() && make(rank)) moved = true;
    }
    for (int rank = 0; rank < size_ && fault_.empty(); ++rank)
      if (states_[index(rank)].next < schedule(rank).moves.size()) fail(rank, "waits for ever");
    for (const auto& [link, message] : links_)
      if (fault_.empty() && message) fail(link.first, "sends a message that nobody receives");
    return finish();
  }

 protected:
  std::string finish() {
    for (int rank = 0; rank < size_ && fault_.empty(); ++rank) check_result(rank);
    return fault_;
  }
  struct Message {
    std::uint32_t number;
    std::vector<Value> values;
  };
  struct State {
    std::array<std::vector<Value>, 3> buffers;
    std::size_t next = 0;
  };

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }
  [[nodiscard]] const Schedule& schedule(int rank) const { return schedules_[index(rank)]; }
  void fail(int rank, const std::string& what) {
    fault_ = fmt::format("rank {} of {}, move {}: {}", rank, size_, states_[index(rank)].next, what);
  }

  // The elements of a region, or null after a failure.
  Value* at(int rank, const Region& region, bool write) {
    auto& buffer = states_[index(rank)].buffers[static_cast<std::size_t>(region.buffer)];
    if (region.offset > buffer.size() || region.count > buffer.size() - region.offset)
      return fail(rank, "leaves a buffer"), nullptr;
    if (write && region.buffer == Buffer::input) return fail(rank, "writes its input"), nullptr;
    Value* values = buffer.data() + region.offset;
    if (!write && std::find(values, values + region.count, 0U) != values + region.count)
      return fail(rank, "reads what was never written"), nullptr;
    return values;
  }

  bool make(int rank) {
    const Move& move = schedule(rank).moves[states_[index(rank)].next];
    const auto sources = schedule(rank).sources_of(move);
    bool made = false;
    switch (move.action) {
      case Action::send: made = send(rank, move, sources); break;
      case Action::receive: made = receive(rank, move); break;
      case Action::reduce: made = reduce(rank, move, sources); break;
      case Action::copy: made = copy(rank, move, sources); break;
    }
    if (made) ++states_[index(rank)].next;
    return made;
  }

  bool send(int rank, const Move& move, std::span<const Region> sources) {
    const int peer = move.peer.value;
    if (peer < 0 || peer >= size_ || peer == rank || sources.size() != 1) return fail(rank, "sends to nobody"), false;
    auto& link = links_[{rank, peer}];
    if (link) return false;
    const Value* values = at(rank, sources[0], false);
    if (values == nullptr) return false;
    link = Message{move.message, {values, values + sources[0].count}};
    return true;
  }

  bool receive(int rank, const Move& move) {
    auto& link = links_[{move.peer.value, rank}];
    if (!link) return false;
    if (link->number != move.message) return fail(rank, "receives messages out of order"), false;
    if (link->values.size() != move.target.count) return fail(rank, "receives a message of another length"), false;
    Value* target = at(rank, move.target, true);
    if (target == nullptr) return false;
    std::ranges::copy(link->values, target);
    link.reset();
    return true;
  }

  bool copy(int rank, const Move& move, std::span<const Region> sources) {
    if (sources.size() != 1 || sources[0].count != move.target.count)
      return fail(rank, "copies to another length"), false;
    const Value* source = at(rank, sources[0], false);
    Value* target = at(rank, move.target, true);
    if (source == nullptr || target == nullptr) return false;
    std::copy_n(source, move.target.count, target);
    return true;
  }

  // The contract of a ReduceKernel: the target is one of the sources, or overlaps none.
  bool reduce(int rank, const Move& move, std::span<const Region> sources) {
    Value* target = at(rank, move.target, true);
    if (target == nullptr) return false;
    std::vector<const Value*> operands;
    for (const Region& source : sources) {
      const Value* values = at(rank, source, false);
      if (values == nullptr) return false;
      if (source.count != move.target.count) return fail(rank, "reduces regions of unequal size"), false;
      if (values != target && values < target + move.target.count && target < values + source.count)
        return fail(rank, "reduces into a region that overlaps a source"), false;
      operands.push_back(values);
    }
    for (std::uint64_t i = 0; i < move.target.count; ++i) {
      std::vector<Value> elements;
      for (const Value* operand : operands) elements.push_back(operand[i]);
      target[i] = expressions_.reduce(std::move(elements), move.divides);
    }
    return true;
  }

  void check_result(int rank) {
    const auto& result = states_[index(rank)].buffers[1];
    const std::uint64_t expected = kind_ == Collective::barrier     ? 0
                                   : kind_ == Collective::allgather ? count_ * static_cast<std::uint64_t>(size_)
                                                                    : count_;
    if (result.size() != expected) return fail(rank, "has a result of a wrong size");
    if (result != states_[0].buffers[1]) return fail(rank, "reduces in another order than rank 0");
    for (std::uint64_t i = 0; i < result.size(); ++i) {
      if (result[i] == 0) return fail(rank, fmt::format("leaves element {} unwritten", i));
      if (!contains_what_it_should(result[i], i)) return fail(rank, fmt::format("computes a wrong element {}", i));
    }
  }

  [[nodiscard]] bool contains_what_it_should(Value value, std::uint64_t i) const {
    std::vector<Expressions::Leaf> leaves;
    expressions_.leaves(value, 0, leaves);
    if (kind_ != Collective::allreduce) {
      const auto from = kind_ == Collective::broadcast ? static_cast<std::uint64_t>(root_.value) : i / count_;
      return leaves.size() == 1 && leaves[0].rank == static_cast<int>(from) && leaves[0].divided == 0 &&
             leaves[0].index == i % count_;
    }
    std::vector<bool> seen(index(size_));
    for (const auto& leaf : leaves) {
      if (seen[index(leaf.rank)] || leaf.index != i || leaf.divided != 1) return false;
      seen[index(leaf.rank)] = true;
    }
    return leaves.size() == seen.size();
  }

  const Collective kind_;
  const std::vector<Schedule>& schedules_;
  const std::uint64_t count_;
  const Rank root_;
  const int size_;
  Expressions expressions_;
  std::vector<State> states_;
  std::map<std::pair<int, int>, std::optional<Message>> links_;
  std::string fault_;
};

std::vector<Schedule> schedules_of(const std::vector<Plan>& plans) {
  std::vector<Schedule> schedules;
  for (const Plan& plan : plans) schedules.push_back(plan.schedule);
  return schedules;
}

class PlanValidator : private Validator {
 public:
  PlanValidator(Collective kind, const std::vector<Plan>& plans, const std::vector<Schedule>& schedules,
                std::uint64_t count, Rank root)
      : Validator(kind, schedules, count, root), plans_(plans), players_(plans.size()) {
    for (std::size_t rank = 0; rank < plans.size(); ++rank) {
      Player& player = players_[rank];
      for (std::size_t lane = 0; lane < plans[rank].lanes; ++lane) player.cursors.push_back({lane, 0, {}});
      player.sent.assign(plans.size(), 0);
    }
  }

  std::string run() {
    for (int rank = 0; rank < size_; ++rank)
      if (plans_[index(rank)].segments.size() != plans_[0].segments.size())
        return fmt::format("rank {} has another number of segments", rank);
    for (bool moved = true; moved && fault_.empty();) {
      moved = false;
      for (int rank = 0; rank < size_; ++rank)
        for (std::size_t lane = 0; lane < players_[index(rank)].cursors.size() && fault_.empty(); ++lane)
          moved |= advance(rank, players_[index(rank)].cursors[lane]);
    }
    for (int rank = 0; rank < size_ && fault_.empty(); ++rank)
      for (Cursor& cursor : players_[index(rank)].cursors)
        if (stage_at(rank, cursor) != nullptr) return fail(rank, "waits for ever"), fault_;
    return finish();
  }

 private:
  struct Cursor {
    std::size_t segment;
    std::uint32_t stage;
    std::vector<bool> made;  // transfers of the stage; empty: not begun
  };
  struct Player {
    std::vector<Cursor> cursors;
    std::vector<std::uint32_t> sent;  // messages, by peer
  };

  // The stage that a lane is in; null at its end.
  const Stage* stage_at(int rank, Cursor& cursor) const {
    const Plan& plan = plans_[index(rank)];
    while (cursor.segment < plan.segments.size() && cursor.stage >= plan.segments[cursor.segment].stages)
      cursor = {cursor.segment + plan.lanes, 0, {}};
    if (cursor.segment >= plan.segments.size()) return nullptr;
    return &plan.stages[plan.segments[cursor.segment].first_stage + cursor.stage];
  }

  // Makes a send of the stage together with its receive, or ends the stage. True when something was done.
  bool advance(int rank, Cursor& cursor) {
    const Plan& plan = plans_[index(rank)];
    const Stage* stage = stage_at(rank, cursor);
    if (stage == nullptr) return false;
    if (!check_transfers(rank, *stage)) return false;
    cursor.made.resize(stage->transfers);
    for (std::size_t i = 0; i < stage->transfers; ++i)
      if (!cursor.made[i] && move_at(rank, *stage, i).action == Action::send && deliver(rank, move_at(rank, *stage, i)))
        return cursor.made[i] = true;
    if (std::ranges::find(cursor.made, false) != cursor.made.end()) return false;
    for (std::size_t i = stage->transfers; i < stage->moves; ++i) {
      const Move& move = move_at(rank, *stage, i);
      const auto sources = plan.schedule.sources_of(move);
      if (!(move.action == Action::reduce ? reduce(rank, move, sources) : copy(rank, move, sources))) return false;
    }
    ++cursor.stage;
    cursor.made.clear();
    return true;
  }

  // Hands the message over where the other side waits for it at this very moment.
  bool deliver(int rank, const Move& message) {
    const int peer = message.peer.value;
    if (peer < 0 || peer >= size_ || peer == rank) return fail(rank, "sends to nobody"), false;
    if (players_[index(rank)].sent[index(peer)] != message.message) return false;
    for (Cursor& cursor : players_[index(peer)].cursors) {
      const Stage* stage = stage_at(peer, cursor);
      if (stage == nullptr) continue;
      cursor.made.resize(stage->transfers);
      for (std::size_t i = 0; i < stage->transfers; ++i) {
        const Move& wanted = move_at(peer, *stage, i);
        if (cursor.made[i] || wanted.action != Action::receive || wanted.peer.value != rank ||
            wanted.message != message.message)
          continue;
        if (!send(rank, message, plans_[index(rank)].schedule.sources_of(message)) || !receive(peer, wanted))
          return false;
        ++players_[index(rank)].sent[index(peer)];
        return cursor.made[i] = true;
      }
    }
    return false;
  }

  bool check_transfers(int rank, const Stage& stage) {
    const auto touched = [&](const Move& move) {
      return move.action == Action::receive ? move.target : plans_[index(rank)].schedule.sources_of(move)[0];
    };
    for (std::size_t i = 0; i < stage.transfers; ++i) {
      const Move& writer = move_at(rank, stage, i);
      if (writer.action != Action::receive) continue;
      for (std::size_t j = 0; j < stage.transfers; ++j) {
        const Region other = touched(move_at(rank, stage, j));
        if (i != j && other.buffer == writer.target.buffer &&
            other.offset < writer.target.offset + writer.target.count &&
            writer.target.offset < other.offset + other.count)
          return fail(rank, "writes what another transfer of the round touches"), false;
      }
    }
    return true;
  }

  [[nodiscard]] const Move& move_at(int rank, const Stage& stage, std::size_t i) const {
    return plans_[index(rank)].schedule.moves[stage.first_move + i];
  }

  const std::vector<Plan>& plans_;
  std::vector<Player> players_;
};

}  // namespace

std::string find_fault(Collective kind, const std::vector<Plan>& plans, std::uint64_t count, Rank root) {
  const std::vector<Schedule> schedules = schedules_of(plans);
  return PlanValidator(kind, plans, schedules, count, root).run();
}

std::string find_fault(Collective kind, const std::vector<Schedule>& schedules, std::uint64_t count, Rank root) {
  return Validator(kind, schedules, count, root).run();
}

}  // namespace hora::collectives
