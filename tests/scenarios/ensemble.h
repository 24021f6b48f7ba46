// The members of one scenario: real Membership machines, links that deliver in the order of sending, a clock that moves
// only when told to. Everything that happens becomes a line of the trace.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "elastic/membership.h"

namespace hora::scenarios {

struct Setup {
  int members = 1;
  int hosts = 1;
  bool kill_suspects = false;
  bool records_readable = true;
};

class Ensemble {
 public:
  explicit Ensemble(const Setup& setup);

  void crash(int node);
  // Crashes after it has carried out so many more actions.
  void crash_after(int node, int actions);
  void pause(int node) { nodes_[node].paused = true; }
  void wake(int node);
  void cut(int from, int to) { cut_.insert({from, to}); }
  void heal(int from, int to) { cut_.erase({from, to}); }
  void reset(int a, int b);
  // The data plane of `node` does not stop before report(node).
  void hold_report(int node) { nodes_[node].holds_report = true; }
  void report(int node);
  void request(int node);
  void leave(int node);
  // A process that is in no view, linked to all.
  void newcomer(int node);
  // `node` is asked to admit it.
  void admit(int node, int newcomer);
  // From now on nobody stands where a newcomer may enter, or everybody does again.
  void stand_at_boundary(bool boundary) { at_boundary_ = boundary; }
  // Delivers the oldest message that can be delivered; false when there is none.
  bool step();
  void stabilize();
  // Lets time pass: deadlines in order, and all that follows from each.
  void pass(Duration duration);

  [[nodiscard]] std::vector<std::string> take_trace() { return std::exchange(trace_, {}); }

 private:
  struct Node {
    std::unique_ptr<elastic::Membership> machine;
    wire::Bytes record;
    bool crashed = false;
    bool paused = false;
    bool holds_report = false;
    std::optional<Epoch> report_due;
    std::optional<int> actions_until_crash;
    std::vector<std::pair<int, bool>> notices;  // while paused: peer, true for its death
  };
  struct Flight {
    int from;
    int to;
    wire::Bytes message;
  };

  [[nodiscard]] Member member(int node) const;
  [[nodiscard]] elastic::MembershipOptions options() const;
  [[nodiscard]] bool deliverable(const Flight& flight) const;
  void notice(int node, int peer, bool death);
  void carry_out(int node);
  void carry_out(int node, const elastic::Action& action);
  void answer_freeze(int node, Epoch epoch);
  void installed(int node, const elastic::Install& install);
  void say(std::string line) { trace_.push_back(std::move(line)); }

  Setup setup_;
  bool at_boundary_ = true;
  TimePoint now_{std::chrono::seconds(1)};
  std::map<int, Node> nodes_;
  std::deque<Flight> flights_;
  std::set<std::pair<int, int>> cut_;
  std::set<std::pair<int, int>> lost_;
  std::map<Epoch, View> views_;
  std::vector<std::string> trace_;
};

}  // namespace hora::scenarios
