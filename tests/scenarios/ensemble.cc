#include "scenarios/ensemble.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace hora::scenarios {

namespace {

MemberId member_of(int node) {
  return MemberId{static_cast<std::uint64_t>(node)};
}
int node_of(MemberId member) {
  return static_cast<int>(member.value);
}

wire::Bytes bytes_of(const std::string& text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string text_of(const wire::Bytes& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The verdict of a scenario only shows whose reports it was made from.
wire::Bytes decide(const View&, const View&, const std::map<MemberId, wire::Bytes>& reports) {
  std::vector<std::string> parts;
  for (const auto& [id, report] : reports) parts.push_back(text_of(report));
  return bytes_of(fmt::format("{}", fmt::join(parts, "+")));
}

}  // namespace

Ensemble::Ensemble(const Setup& setup) : setup_(setup) {
  View founding;
  founding.epoch = Epoch{1};
  for (int node = 0; node < setup.members; ++node) founding.members.push_back(member(node));
  for (int node = 0; node < setup.members; ++node) {
    nodes_[node].machine = std::make_unique<elastic::Membership>(options(), member_of(node), founding,
                                                                 static_cast<std::uint64_t>(node), now_);
    carry_out(node);
  }
}

Member Ensemble::member(int node) const {
  return {member_of(node), static_cast<std::uint64_t>(node % setup_.hosts), ""};
}

elastic::MembershipOptions Ensemble::options() const {
  elastic::MembershipOptions options;
  options.decide = decide;
  options.may_enter = [this](const View&, const auto&) { return at_boundary_; };
  options.kill_suspects = setup_.kill_suspects;
  return options;
}

void Ensemble::newcomer(int index) {
  nodes_[index].machine = std::make_unique<elastic::Membership>(
      elastic::Membership::outsider(options(), member(index), static_cast<std::uint64_t>(index), now_));
  carry_out(index);
}

void Ensemble::admit(int index, int newcomer) {
  nodes_[index].machine->admit(member(newcomer), now_);
  carry_out(index);
}

bool Ensemble::deliverable(const Flight& flight) const {
  return !cut_.contains({flight.from, flight.to}) && !nodes_.at(flight.to).paused;
}

bool Ensemble::step() {
  const auto next =
      std::find_if(flights_.begin(), flights_.end(), [this](const Flight& each) { return deliverable(each); });
  if (next == flights_.end()) return false;
  const Flight flight = std::move(*next);
  flights_.erase(next);
  Node& node = nodes_[flight.to];
  if (node.crashed) return true;
  node.machine->on_message(member_of(flight.from), flight.message, now_);
  carry_out(flight.to);
  return true;
}

void Ensemble::stabilize() {
  while (step()) {
  }
}

void Ensemble::pass(Duration duration) {
  const TimePoint end = now_ + duration;
  for (;;) {
    int first = -1;
    for (const auto& [index, node] : nodes_) {
      const auto due = node.machine->next_deadline();
      if (node.crashed || node.paused || !due || *due > end) continue;
      if (first < 0 || *due < *nodes_[first].machine->next_deadline()) first = index;
    }
    if (first < 0) break;
    now_ = std::max(now_, *nodes_[first].machine->next_deadline());
    nodes_[first].machine->on_deadline(now_);
    carry_out(first);
    stabilize();
  }
  now_ = end;
}

void Ensemble::crash(int index) {
  Node& node = nodes_[index];
  if (std::exchange(node.crashed, true)) return;
  say(fmt::format("{} dies", index));
  for (const auto& [peer, other] : nodes_) {
    if (peer == index || other.crashed) continue;
    const bool sees = peer % setup_.hosts == index % setup_.hosts;
    notice(peer, index, sees);
  }
}

void Ensemble::crash_after(int index, int actions) {
  nodes_[index].actions_until_crash = actions;
}

void Ensemble::notice(int index, int peer, bool death) {
  Node& node = nodes_[index];
  if (node.paused) {
    node.notices.emplace_back(peer, death);
    return;
  }
  if (death) {
    const auto record = setup_.records_readable ? std::optional(nodes_[peer].record) : std::nullopt;
    node.machine->on_certain_death(member_of(peer), record, now_);
  } else {
    node.machine->on_link_down(member_of(peer), now_);
  }
  carry_out(index);
}

void Ensemble::wake(int index) {
  nodes_[index].paused = false;
  for (const auto& [peer, death] : std::exchange(nodes_[index].notices, {})) notice(index, peer, death);
}

void Ensemble::reset(int a, int b) {
  for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
    lost_.insert({from, to});
    std::erase_if(flights_,
                  [from = from, to = to](const Flight& flight) { return flight.from == from && flight.to == to; });
    notice(to, from, false);
  }
}

void Ensemble::report(int index) {
  Node& node = nodes_[index];
  node.holds_report = false;
  if (const auto epoch = std::exchange(node.report_due, std::nullopt)) answer_freeze(index, *epoch);
  carry_out(index);
}

void Ensemble::request(int index) {
  nodes_[index].machine->request_view_change({StatusCode::timed_out, "operation 1"}, now_);
  carry_out(index);
}

void Ensemble::leave(int index) {
  nodes_[index].machine->leave(now_);
  carry_out(index);
}

void Ensemble::carry_out(int index) {
  Node& node = nodes_[index];
  while (!node.crashed) {
    const std::vector<elastic::Action> actions = node.machine->take_actions();
    if (actions.empty()) return;
    for (const elastic::Action& action : actions) {
      if (node.actions_until_crash && (*node.actions_until_crash)-- == 0) return crash(index);
      carry_out(index, action);
    }
  }
}

void Ensemble::carry_out(int index, const elastic::Action& action) {
  Node& node = nodes_[index];
  if (const auto* freeze = std::get_if<elastic::Freeze>(&action)) {
    say(fmt::format("{} freezes {}", index, freeze->epoch.value));
    if (node.holds_report)
      node.report_due = freeze->epoch;
    else
      answer_freeze(index, freeze->epoch);
  } else if (const auto* persist = std::get_if<elastic::Persist>(&action)) {
    node.record = persist->record;
  } else if (const auto* send = std::get_if<elastic::Send>(&action)) {
    const auto message = elastic::decode_message(send->message);
    const int to = node_of(send->to);
    if (!std::holds_alternative<elastic::Heartbeat>(*message))
      say(fmt::format("{} -> {} {}", index, to, elastic::to_string(*message)));
    if (!lost_.contains({index, to})) flights_.push_back({index, to, send->message});
  } else if (const auto* install = std::get_if<elastic::Install>(&action)) {
    installed(index, *install);
  } else if (const auto* fence = std::get_if<elastic::Fence>(&action)) {
    say(fmt::format("{} fences: {}", index, fence->cause.to_string()));
  } else if (const auto* kill = std::get_if<elastic::Kill>(&action)) {
    say(fmt::format("{} kills {}", index, kill->suspect.value));
    crash(node_of(kill->suspect));
  }
}

void Ensemble::answer_freeze(int index, Epoch epoch) {
  nodes_[index].machine->on_report(epoch, bytes_of(fmt::format("r{}", index)), now_);
}

void Ensemble::installed(int index, const elastic::Install& install) {
  std::string line =
      fmt::format("{} installs {} verdict={}", index, elastic::to_string(install.next), text_of(install.verdict));
  for (const elastic::Departure& departure : install.departures)
    line += fmt::format(", without {}: {}", departure.member.value, departure.cause);
  say(std::move(line));
  const auto [known, first] = views_.try_emplace(install.next.epoch, install.next);
  if (!first && known->second != install.next)
    say(fmt::format("VIOLATION: two views of epoch {}", install.next.epoch.value));
}

}  // namespace hora::scenarios
