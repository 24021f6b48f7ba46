// The negotiated front of one simulated process: an application that submits every name once in each step, in an order
// of its own, a Negotiator for each view, and what the engine carries from one view to the next.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "negotiation/negotiator.h"
#include "sim/data_plane.h"
#include "sim/report.h"

namespace hora::sim {

class Cluster;
class Node;

class NamedWork {
 public:
  NamedWork(Cluster& cluster, Node& node, int index);

  // The first view of a founder; of a newcomer, after take_past().
  void begin(const View& view);
  void take_past(NamedPast past);
  void receive(int from, const wire::Bytes& message);
  // The next step, or the end of the work.
  void begin_step();
  // An operation of the negotiated channel ended.
  void operation_ended();

  void report(Report& report) const;
  // Around the install of the data plane, in which operations end that were begun or broken.
  void before_install(const Verdict& verdict);
  void after_install(const View& next, const Verdict& verdict);

  [[nodiscard]] std::uint64_t steps() const { return steps_; }
  // Between two steps.
  [[nodiscard]] bool idle() const;
  [[nodiscard]] bool finished() const;
  [[nodiscard]] NamedPast past() const;

 private:
  struct Tensor {
    std::vector<NameOutcome> outcomes;
    bool pending = false;                    // submitted by the application
    std::vector<NameOutcome> next_outcomes;  // of submissions to come, which were rejected before they were made
  };

  void submit(const std::string& name);
  void offer(const std::string& name);
  void negotiate(const View& view);
  void drive();
  void start();
  void act();
  void end(const std::string& name, NameOutcome outcome);
  void arm();
  [[nodiscard]] Signature request(const std::string& name, std::uint64_t step) const;

  Cluster& cluster_;
  Node& node_;
  int index_;
  std::map<std::string, Tensor> tensors_;
  std::uint64_t steps_ = 0;  // begun
  std::unique_ptr<negotiation::Negotiator> negotiator_;
  View view_;
  std::vector<std::string> group_;                  // in execution
  bool from_negotiator_ = false;                    // ... and this view's negotiator asked for it
  std::vector<std::string> breaking_;               // what ends in an error in this install
  std::vector<std::pair<int, wire::Bytes>> early_;  // messages of views that are not installed here
  std::uint64_t armed_ = 0;
};

}  // namespace hora::sim
