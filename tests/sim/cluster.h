// One schedule: the nodes, the network and memory between them, the faults drawn from the seed, and the verdict.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/random.h"
#include "sim/checker.h"
#include "sim/event_queue.h"
#include "sim/network.h"
#include "sim/node.h"
#include "sim/swarm.h"

namespace hora::sim {

// What came of a schedule.
struct Summary {
  std::string violation;         // empty: none
  std::uint64_t trace_hash = 0;  // of everything that happened, in order
  std::size_t views = 0;
  std::size_t survivors = 0;
  std::size_t resumed = 0;
  std::size_t broken = 0;
  std::size_t fenced_without_quorum = 0;
  std::size_t names_executed = 0;
  std::size_t names_rejected = 0;
  std::size_t joined = 0;            // newcomers that installed a view
  std::size_t joined_late = 0;       // ... after the first word of it was lost on them
  std::size_t left_out = 0;          // views decided without a newcomer that asked: no boundary, or a failure
  std::size_t died_undecided = 0;    // newcomers that died before a view with them was installed anywhere
  std::size_t died_uninstalled = 0;  // ... before they installed it, but others had
  bool fault_inside_operation = false;
};

class Cluster {
 public:
  // `covered` collects the transitions seen, over many schedules.
  Cluster(std::uint64_t seed, bool verbose, std::set<std::string>* covered);

  Summary run();

  // For the nodes.
  [[nodiscard]] TimePoint now() const { return events_.now(); }
  [[nodiscard]] EventQueue& events() { return events_; }
  [[nodiscard]] Random& random() { return random_; }
  [[nodiscard]] const Swarm& swarm() const { return swarm_; }
  [[nodiscard]] Memory& memory() { return memory_; }
  [[nodiscard]] Checker& checker() { return checker_; }
  [[nodiscard]] Duration draw(Duration most);
  [[nodiscard]] Member member(int node) const;
  [[nodiscard]] OperationPlan plan(Channel channel, std::uint64_t sequence) const;
  // `node` submits something else than the others.
  [[nodiscard]] bool disagrees(int node, const std::string& name, std::uint64_t step) const;
  [[nodiscard]] bool is_late(int node, Channel channel, std::uint64_t sequence) const;
  void send(int from, int to, Traffic traffic, std::span<const std::byte> message);
  void about_to_admit(int member, int newcomer);
  void entered(int newcomer, bool told_again);
  void left_out() { ++summary_.left_out; }
  void publish(int writer);
  void before_step(int node, Channel channel);
  void crashed(int node);
  void kill(int node);
  void fenced(int node, const Status& cause);
  void count(std::span<const ChannelVerdict> verdicts);
  void named_outcome(StatusCode code);
  void cover(const std::vector<elastic::Action>& actions);
  void trace(int node, const std::string& what, std::span<const std::byte> message = {});
  void violation(const std::string& what);

 private:
  // A fault at a certain step inside an operation.
  struct InnerFault {
    int node = 0;
    Channel channel = Channel::ordered;
    std::uint64_t sequence = 1;
    std::uint64_t steps = 0;
    bool pending = true;
  };

  [[nodiscard]] bool could_decide(int node) const;
  [[nodiscard]] bool could_enter(int newcomer) const;
  void start_newcomer(int newcomer);

  // schedule.cc
  void plan_faults();
  void inject(FaultKind kind, int node);
  void cut_for(int from, int to, Duration duration);
  void leave_when_idle(int node);
  [[nodiscard]] bool settled() const;
  [[nodiscard]] std::string describe_unsettled() const;
  void check_end();
  void run_until(const std::function<bool()>& reached);
  [[nodiscard]] int host_of(int node) const { return node % swarm_.hosts; }
  [[nodiscard]] int other_than(int node);
  Node& node(int index) { return *nodes_[static_cast<std::size_t>(index)]; }
  [[nodiscard]] const Node& node(int index) const { return *nodes_[static_cast<std::size_t>(index)]; }

  std::uint64_t seed_;
  bool verbose_;
  std::set<std::string>* covered_;
  Swarm swarm_;
  Random random_;
  EventQueue events_;
  Network network_;
  Memory memory_;
  Checker checker_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::vector<TimePoint> visible_;  // last flag of each writer at each reader: they keep their order
  InnerFault inner_;
  int joining_faults_ = 0;  // still to come
  std::optional<TimePoint> faults_ended_;
  std::string last_input_;
  Summary summary_;
};

}  // namespace hora::sim
