// Negotiators of one view over simulated links and a simulated board, delivered step by step in any order the test
// chooses: messages in order on each link, stores to the board one by one, nothing at the same time everywhere.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/random.h"
#include "negotiation/negotiator.h"

namespace hora::negotiation {

inline Signature allreduce(std::uint64_t count, DataType dtype = DataType::float32, ReduceOp op = ReduceOp::sum) {
  return {.kind = Collective::allreduce, .dtype = dtype, .op = op, .root = Rank{0}, .count = count};
}

inline MemberId member(int rank) {
  return MemberId{100 + static_cast<std::uint64_t>(rank)};
}

inline View view_of(int size, std::uint64_t fusion_bytes = 16 << 20) {
  View view;
  view.epoch = Epoch{7};
  for (int rank = 0; rank < size; ++rank) view.members.push_back({.id = member(rank), .host = 1, .address = {}});
  view.config.fusion_bytes = fusion_bytes;
  return view;
}

// What all members see of the shared memory. A store is visible to its writer's peers only once it was delivered.
struct SharedBoard {
  SharedBoard(int size, std::uint32_t tensors) : capacity(tensors), read_until(size), visible_log(size) {}

  struct Store {
    int rank;
    TensorId id;
    std::uint32_t submissions;
  };
  std::uint32_t capacity;
  std::size_t log_entries = 3;
  std::map<std::pair<int, TensorId>, std::uint32_t> ready;
  std::vector<Store> stores;  // posted, not yet visible
  std::vector<std::vector<TensorId>> log;
  std::vector<std::uint64_t> read_until;   // by rank: positions read
  std::vector<std::uint64_t> visible_log;  // by rank: positions that can be read
};

class FakeBoard : public Board {
 public:
  FakeBoard(SharedBoard& shared, int rank) : shared_(shared), rank_(rank) {}

  std::uint32_t capacity() const override { return shared_.capacity; }
  void post_ready(TensorId id, std::uint32_t submissions) override {
    if (id >= shared_.capacity) std::abort();
    shared_.stores.push_back({rank_, id, submissions});
  }
  std::uint32_t ready(Rank rank, TensorId id) const override {
    const auto word = shared_.ready.find({rank.value, id});
    return word == shared_.ready.end() ? 0 : word->second;
  }
  bool append(std::uint64_t position, std::span<const TensorId> group) override {
    if (rank_ != 0 || position != shared_.log.size() + 1 || group.empty()) std::abort();
    for (const std::uint64_t read : shared_.read_until)
      if (position > read + shared_.log_entries) return false;
    shared_.log.emplace_back(group.begin(), group.end());
    shared_.visible_log[0] = position;
    return true;
  }
  bool read(std::uint64_t position, std::vector<TensorId>& group) override {
    const auto rank = static_cast<std::size_t>(rank_);
    if (position != shared_.read_until[rank] + 1) std::abort();
    if (position > shared_.visible_log[rank]) return false;
    group = shared_.log[position - 1];
    shared_.read_until[rank] = position;
    return true;
  }

 private:
  SharedBoard& shared_;
  int rank_;
};

struct ClusterOptions {
  int size = 2;
  std::optional<std::uint32_t> board_capacity = 64;  // nothing: messages only
  std::uint64_t fusion_bytes = 16 << 20;
  NegotiatorOptions limits{};
};

class Cluster {
 public:
  // How one submission ended. `group` is the position in the log, or 0 where it failed.
  struct Outcome {
    std::uint64_t group = 0;
    StatusCode code = StatusCode::ok;
    std::string text;
    friend bool operator==(const Outcome&, const Outcome&) = default;
  };
  struct Group {
    Signature signature;
    std::vector<std::string> names;
    friend bool operator==(const Group&, const Group&) = default;
  };
  struct Node {
    std::unique_ptr<FakeBoard> board;
    std::unique_ptr<Negotiator> negotiator;
    std::map<std::string, std::vector<Outcome>> outcomes;  // by name, in order of submission
    std::vector<Group> groups;
    std::vector<std::string> stalls;
    const Execution* running = nullptr;
  };

  explicit Cluster(const ClusterOptions& options)
      : shared_(options.size, options.board_capacity.value_or(0)), nodes_(options.size) {
    const View view = view_of(options.size, options.fusion_bytes);
    for (int rank = 0; rank < options.size; ++rank) {
      Node& node = nodes_[rank];
      if (options.board_capacity) node.board = std::make_unique<FakeBoard>(shared_, rank);
      node.negotiator = std::make_unique<Negotiator>(options.limits, view, member(rank), node.board.get());
    }
  }

  Result<EntryId> submit(int rank, const std::string& name, const Signature& signature,
                         std::vector<std::int64_t> shape = {}) {
    Node& node = nodes_[rank];
    const Result<EntryId> entry = node.negotiator->submit(name, signature, shape, now);
    if (!entry.ok() && entry.status().code() != StatusCode::invalid_argument) fail(node, name, entry.status());
    carry(rank);
    return entry;
  }
  void submit_everywhere(const std::string& name, const Signature& signature, std::vector<std::int64_t> shape = {}) {
    for (int rank = 0; rank < size(); ++rank) (void)submit(rank, name, signature, shape);
  }

  void inject(int from, int to, std::span<const std::byte> message) {
    nodes_[to].negotiator->on_message(member(from), message, now);
    carry(to);
  }
  void inject(int from, int to, const Message& message) { inject(from, to, encode(Epoch{7}, message)); }

  void poll(int rank) {
    nodes_[rank].negotiator->poll();
    carry(rank);
  }
  // Starts what is next, if the rank runs nothing.
  bool start(int rank) {
    Node& node = nodes_[rank];
    const Execution* execution = node.negotiator->next_execution();
    carry(rank);
    if (execution == nullptr) return false;
    node.running = execution;
    if (execution->position != node.groups.size() + 1) std::abort();
    Group& group = node.groups.emplace_back();
    group.signature = execution->signature;
    for (const EntryId entry : execution->entries) group.names.emplace_back(node.negotiator->name_of(entry));
    return true;
  }
  bool finish(int rank) {
    Node& node = nodes_[rank];
    if (node.running == nullptr) return false;
    for (const EntryId entry : node.running->entries)
      node.outcomes[std::string(node.negotiator->name_of(entry))].push_back(
          {.group = node.running->position, .code = {}, .text = {}});
    node.running = nullptr;
    node.negotiator->finish_execution();
    return true;
  }
  bool deliver_message(int from, int to) {
    auto& link = links_[{from, to}];
    if (link.empty()) return false;
    const wire::Bytes message = std::move(link.front());
    link.pop_front();
    inject(from, to, message);
    return true;
  }
  // Makes the `index`-th store visible that is not yet, but none to the same word before an older one.
  bool deliver_store(std::size_t index) {
    if (shared_.stores.empty()) return false;
    const SharedBoard::Store& chosen = shared_.stores[index % shared_.stores.size()];
    for (auto store = shared_.stores.begin();; ++store) {
      if (store->rank != chosen.rank || store->id != chosen.id) continue;
      shared_.ready[{store->rank, store->id}] = store->submissions;
      shared_.stores.erase(store);
      return true;
    }
  }
  bool deliver_log(int rank) {
    if (shared_.visible_log[rank] == shared_.log.size()) return false;
    ++shared_.visible_log[rank];
    return true;
  }
  void advance(Duration time) {
    now += time;
    for (int rank = 0; rank < size(); ++rank) on_deadline(rank);
  }
  void on_deadline(int rank) {
    const std::optional<TimePoint> deadline = nodes_[rank].negotiator->next_deadline();
    if (!deadline || *deadline > now) return;
    nodes_[rank].negotiator->on_deadline(now);
    carry(rank);
  }

  // Delivers and executes until nothing moves.
  void settle() {
    for (bool moved = true; moved;) {
      moved = false;
      for (int from = 0; from < size(); ++from)
        for (int to = 0; to < size(); ++to)
          while (deliver_message(from, to)) moved = true;
      while (deliver_store(0)) moved = true;
      for (int rank = 0; rank < size(); ++rank) {
        poll(rank);
        while (deliver_log(rank)) moved = true;
        moved = start(rank) || moved;
      }
      for (int rank = 0; rank < size(); ++rank) moved = finish(rank) || moved;
      for (int rank = 0; rank < size(); ++rank) on_deadline(rank);
    }
  }
  // One step of any kind, anywhere.
  void step(Random& random) {
    const int rank = static_cast<int>(random.below(nodes_.size()));
    switch (random.below(6)) {
      case 0: deliver_message(rank, static_cast<int>(random.below(nodes_.size()))); break;
      case 1: deliver_store(random.next()); break;
      case 2: deliver_log(rank); break;
      case 3: poll(rank); break;
      case 4: start(rank); break;
      case 5: finish(rank); break;
    }
  }

  [[nodiscard]] int size() const { return static_cast<int>(nodes_.size()); }
  [[nodiscard]] const Node& node(int rank) const { return nodes_[rank]; }
  Negotiator& negotiator(int rank) { return *nodes_[rank].negotiator; }
  [[nodiscard]] Outcome last(int rank, const std::string& name) const {
    const auto outcomes = nodes_[rank].outcomes.find(name);
    return outcomes == nodes_[rank].outcomes.end() ? Outcome() : outcomes->second.back();
  }
  [[nodiscard]] std::size_t messages() const { return messages_; }

  TimePoint now{std::chrono::hours(1)};

 private:
  static void fail(Node& node, const std::string& name, const Status& status) {
    node.outcomes[name].push_back({.group = 0, .code = status.code(), .text = std::string(status.message())});
  }
  void carry(int rank) {
    Node& node = nodes_[rank];
    if (!node.negotiator->has_actions()) return;
    Actions actions = node.negotiator->take_actions();
    for (Send& send : actions.sends) {
      ++messages_;
      links_[{rank, static_cast<int>(send.to.value - 100)}].push_back(std::move(send.message));
    }
    for (const Failure& failure : actions.failures)
      fail(node, std::string(node.negotiator->name_of(failure.entry)), failure.status);
    for (std::string& stall : actions.stalls) node.stalls.push_back(std::move(stall));
  }

  SharedBoard shared_;
  std::vector<Node> nodes_;
  std::map<std::pair<int, int>, std::deque<wire::Bytes>> links_;
  std::size_t messages_ = 0;
};

}  // namespace hora::negotiation
