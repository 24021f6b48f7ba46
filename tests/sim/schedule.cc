// The course of one schedule: faults while laws are checked, then none and everything must come to an end.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "sim/cluster.h"

namespace hora::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kFaultTime = seconds(3);     // faults begin within this time
constexpr Duration kSettleTime = seconds(120);  // after the last fault; far more than any deadline adds up to

}  // namespace

int Cluster::other_than(int index) {
  const auto total = static_cast<std::uint64_t>(swarm_.total());
  return static_cast<int>((static_cast<std::uint64_t>(index) + 1 + random_.below(total - 1)) % total);
}

void Cluster::plan_faults() {
  const auto any_of = [this](int nodes) { return static_cast<int>(random_.below(static_cast<std::uint64_t>(nodes))); };
  const auto any_node = [this, any_of] {
    if (swarm_.newcomers > 0 && random_.chance(1, 3)) return swarm_.size + any_of(swarm_.newcomers);
    return any_of(swarm_.total());
  };
  joining_faults_ = swarm_.newcomers > 0 ? swarm_.joining_faults : 0;
  inner_.node = any_of(swarm_.size);
  inner_.channel = static_cast<Channel>(random_.below(kChannelCount));
  inner_.sequence = 1 + random_.below(std::min<std::uint64_t>(swarm_.operations - 1, 4));
  inner_.steps = random_.below(swarm_.chunked_percent > 0 ? 30 : 4);
  for (int fault = 0; fault < swarm_.faults; ++fault) {
    const FaultKind kind = swarm_.kinds[random_.below(swarm_.kinds.size())];
    events_.after(draw(kFaultTime), [this, kind, index = any_node()] { inject(kind, index); });
  }
  for (int newcomer = swarm_.size; newcomer < swarm_.total(); ++newcomer)
    events_.after(draw(swarm_.newcomer_delay_max), [this, newcomer] { start_newcomer(newcomer); });
}

// Strikes while a newcomer is being let in: who was asked, the newcomer, or the links between them.
void Cluster::about_to_admit(int member, int newcomer) {
  if (joining_faults_ == 0 || !summary_.fault_inside_operation || faults_ended_ || !random_.chance(1, 3)) return;
  --joining_faults_;
  if (random_.chance(1, 4)) return node(member).crash_after(1 + static_cast<int>(random_.below(20)));
  const Duration view_change = 6 * swarm_.latency_max + swarm_.freeze_max;
  const auto proposer = static_cast<int>(node(member).view().members.front().id.value);
  events_.after(draw(view_change), [this, newcomer, proposer, kind = random_.below(5)] {
    if (!node(newcomer).running()) return;
    trace(newcomer, fmt::format("fault {} while joining", kind));
    if (kind == 0) return node(newcomer).crash();
    if (kind == 1) return node(newcomer).pause(milliseconds(50) + draw(seconds(8)));
    if (kind == 2) {  // only the newcomer hears of what it proposes
      for (int peer = 0; peer < swarm_.total(); ++peer)
        if (peer != newcomer && peer != proposer) cut_for(proposer, peer, draw(seconds(8)));
      return;
    }
    for (int peer = 0; peer < swarm_.total(); ++peer) {
      if (peer == newcomer || random_.chance(1, 3)) continue;
      if (kind == 3)
        network_.reset(newcomer, peer);
      else
        cut_for(peer, newcomer, draw(seconds(4)));
    }
  });
}

void Cluster::cut_for(int from, int to, Duration duration) {
  network_.cut(from, to);
  events_.after(duration, [this, from, to] { network_.heal(from, to); });
}

void Cluster::before_step(int index, Channel channel) {
  if (!inner_.pending) return;
  // How many operations the names make is not known before: at the latest it is the last one of the ordered channel.
  const bool last = channel == Channel::ordered && node(index).data().done(channel) + 1 == swarm_.operations;
  if (channel != inner_.channel && !last) return;
  if (!node(inner_.node).running()) inner_.node = index;  // another fault came first
  if (index != inner_.node) return;
  const std::uint64_t current = node(index).data().done(channel) + 1;
  // Few steps may come before the operation ends: then it strikes at a step of the next one.
  if (current < inner_.sequence || (current == inner_.sequence && inner_.steps-- > 0)) return;
  inner_.pending = false;
  const FaultKind kind = swarm_.kinds[random_.below(swarm_.kinds.size())];
  inject(kind == FaultKind::leave ? FaultKind::crash : kind, index);  // nobody leaves inside an operation
}

void Cluster::inject(FaultKind kind, int index) {
  if (!node(index).running()) return;
  const bool inside = std::any_of(nodes_.begin(), nodes_.end(),
                                  [](const auto& each) { return each->running() && each->in_operation(); });
  if (!inside && !summary_.fault_inside_operation) {  // the first fault of a schedule strikes inside an operation
    events_.after(milliseconds(1), [this, kind, index] { inject(kind, index); });
    return;
  }
  summary_.fault_inside_operation = true;
  trace(index, fmt::format("fault {}", to_string(kind)));
  switch (kind) {
    case FaultKind::crash: return node(index).crash();
    case FaultKind::crash_proposing:
      node(index).crash_after(1 + static_cast<int>(random_.below(4 * static_cast<std::uint64_t>(swarm_.size))));
      return node(index).request_view_change();
    case FaultKind::pause: return node(index).pause(milliseconds(50) + draw(seconds(8)));
    case FaultKind::request: return node(index).request_view_change();
    case FaultKind::leave: return leave_when_idle(index);
    case FaultKind::reset:
      if (swarm_.total() > 1) network_.reset(index, other_than(index));
      return;
    case FaultKind::cut:
      if (swarm_.total() > 1) cut_for(index, other_than(index), draw(seconds(8)));
      return;
    case FaultKind::partition: {
      const std::uint64_t side = random_.next();
      const Duration duration = draw(seconds(15));
      for (int from = 0; from < swarm_.total(); ++from)
        for (int to = 0; to < swarm_.total(); ++to)
          if ((side >> from & 1) != (side >> to & 1)) cut_for(from, to, duration);
      return;
    }
  }
}

void Cluster::leave_when_idle(int index) {
  if (!node(index).running() || node(index).leaving()) return;
  // Leaving is no fault inside an operation, and the last one to leave ends the schedule.
  if (summary_.fault_inside_operation && !node(index).in_operation() && !node(index).paused())
    return node(index).leave();
  events_.after(milliseconds(1), [this, index] { leave_when_idle(index); });
}

bool Cluster::settled() const {
  for (int index = 0; index < swarm_.total(); ++index) {
    const Node* each = &node(index);
    if (!each->running()) continue;
    if (each->outside()) {
      if (could_enter(index)) return false;
      continue;
    }
    if (each->paused() || each->leaving() || !each->work_done()) return false;
    for (const auto& other : nodes_)
      if (other->running() && !other->outside() && other->view() != each->view()) return false;
    for (const Member& member : each->view().members)
      if (!node(static_cast<int>(member.id.value)).running()) return false;
  }
  return true;
}

void Cluster::check_end() {
  if (!summary_.fault_inside_operation) violation("the schedule had no fault inside an operation");
  const Node* first = nullptr;
  int first_index = 0;
  for (int index = 0; index < swarm_.total(); ++index) {
    if (!node(index).running() || node(index).outside()) continue;
    ++summary_.survivors;
    if (first == nullptr) {
      first = &node(index);
      first_index = index;
    } else {
      checker_.same_past(first_index, first->past(), index, node(index).past());
    }
  }
  summary_.views = checker_.views();
}

std::string Cluster::describe_unsettled() const {
  std::string text = "it does not settle:";
  for (int index = 0; index < swarm_.total(); ++index) {
    const Node& each = node(index);
    if (!each.running()) continue;
    text += fmt::format(" node {} in {}, done {} and {} in step {}{};", index, elastic::to_string(each.view()),
                        each.data().done(Channel::ordered), each.data().done(Channel::negotiated), each.steps(),
                        each.in_operation() ? ", in an operation" : "");
  }
  return text;
}

void Cluster::run_until(const std::function<bool()>& reached) {
  TimePoint look = now();
  while (summary_.violation.empty() && events_.run_next()) {
    if (now() < look) continue;
    look = now() + milliseconds(50);
    if (reached()) return;
  }
}

Summary Cluster::run() {
  if (verbose_) std::printf("seed %llu: %s\n", static_cast<unsigned long long>(seed_), swarm_.describe().c_str());
  for (int index = 0; index < swarm_.size; ++index) node(index).boot();
  plan_faults();

  // Every fault has struck and healed by then; what was paused has woken.
  const TimePoint calm = now() + kFaultTime + seconds(16);
  run_until([&] { return now() >= calm; });
  inner_.pending = false;
  faults_ended_ = now();
  const TimePoint limit = now() + kSettleTime;
  run_until([&] { return settled() || now() >= limit; });
  if (summary_.violation.empty() && !settled()) violation(describe_unsettled());
  check_end();
  if (swarm_.all_leave_at_the_end && summary_.violation.empty()) {
    for (int index = 0; index < swarm_.total(); ++index)
      events_.after(draw(milliseconds(50)), [this, index] { leave_when_idle(index); });
    const TimePoint end = now() + kSettleTime;
    const auto all_left = [this] {
      return std::none_of(nodes_.begin(), nodes_.end(), [](const auto& each) { return each->running(); });
    };
    run_until([&] { return all_left() || now() >= end; });
    if (!all_left()) violation("not everybody could leave");
  }
  return summary_;
}

}  // namespace hora::sim
