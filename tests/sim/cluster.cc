#include "sim/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "elastic/quorum.h"

namespace hora::sim {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kQuorumTimeout = seconds(10);

Member member_of(const Swarm& swarm, int node) {
  return {MemberId{static_cast<std::uint64_t>(node)}, static_cast<std::uint64_t>(100 + node % swarm.hosts),
          fmt::format("sim:{}", node)};
}

View founding_view(const Swarm& swarm) {
  View view;
  view.epoch = Epoch{1};
  view.config.silence_ms = swarm.silence_ms;
  for (int node = 0; node < swarm.size; ++node) view.members.push_back(member_of(swarm, node));
  return view;
}

const char* name_of(const elastic::Action& action) {
  static constexpr const char* kNames[] = {"freeze", "persist", "send", "install", "fence", "kill"};
  return kNames[action.index()];
}

}  // namespace

Cluster::Cluster(std::uint64_t seed, bool verbose, std::set<std::string>* covered)
    : seed_(seed),
      verbose_(verbose),
      covered_(covered),
      swarm_(seed),
      random_(seed),
      network_(events_, random_, swarm_.total(), swarm_.latency_max,
               {[this](int to, int from, const wire::Bytes& message) { node(to).receive(from, message); },
                [this](int to, int peer) { node(to).lose_link(peer); }}),
      memory_(static_cast<std::size_t>(swarm_.total())),
      checker_([this](const std::string& what) { violation(what); }),
      visible_(memory_.size() * memory_.size()) {
  const View founding = founding_view(swarm_);
  for (const Member& member : founding.members) memory_[member.id.value].flags.ready = founding.epoch;
  for (int index = 0; index < swarm_.total(); ++index) {
    nodes_.push_back(std::make_unique<Node>(*this, index, index < swarm_.size ? founding : View{}, random_.next()));
    if (index >= swarm_.size) network_.isolate(index);
  }
  summary_.trace_hash = 0xcbf29ce484222325ULL;
}

Duration Cluster::draw(Duration most) {
  return Duration(static_cast<std::int64_t>(random_.below(static_cast<std::uint64_t>(most.count()) + 1)));
}

OperationPlan Cluster::plan(Channel channel, std::uint64_t sequence) const {
  Random random(seed_ * 31 + sequence * 2 + static_cast<std::uint64_t>(channel));
  OperationPlan plan;
  if (random.below(100) < static_cast<std::uint64_t>(swarm_.chunked_percent)) {
    plan.chunked = true;
    return plan;
  }
  plan.kind = static_cast<Collective>(random.below(kCollectiveCount));
  plan.last_root = plan.kind == Collective::broadcast && random.chance(1, 2);
  return plan;
}

bool Cluster::is_late(int node, Channel channel, std::uint64_t sequence) const {
  const std::uint64_t late = (channel == Channel::ordered ? 1 : 2) + swarm_.operations / 2;
  return node == swarm_.laggard && sequence == late;
}

bool Cluster::disagrees(int node, const std::string& name, std::uint64_t step) const {
  Random random(seed_ * 37 + step * 8 + static_cast<std::uint64_t>(name.back()));
  return random.chance(1, 10) && static_cast<int>(random.below(static_cast<std::uint64_t>(swarm_.total()))) == node;
}

void Cluster::named_outcome(StatusCode code) {
  ++(code == StatusCode::mismatch || code == StatusCode::timed_out ? summary_.names_rejected : summary_.names_executed);
}

void Cluster::trace(int node, const std::string& what, std::span<const std::byte> message) {
  const auto mix = [this](std::uint64_t value) {
    summary_.trace_hash = (summary_.trace_hash ^ value) * 0x100000001b3ULL;
  };
  mix(static_cast<std::uint64_t>(now().time_since_epoch().count()));
  mix(static_cast<std::uint64_t>(node));
  for (const char letter : what) mix(static_cast<std::uint64_t>(letter));
  for (const std::byte byte : message) mix(static_cast<std::uint64_t>(byte));

  const auto decoded = message.empty() ? std::nullopt : elastic::decode_message(message);
  const std::string text = decoded ? elastic::to_string(*decoded) : std::string();
  // What came in, without its numbers: one end of a transition.
  last_input_.clear();
  for (const char letter : decoded ? text.substr(0, text.find(' ')) : what)
    if (letter < '0' || letter > '9') last_input_ += letter;
  if (verbose_)
    std::printf("%12.6f node %d: %s %s\n", static_cast<double>(now().time_since_epoch().count()) / 1e9, node,
                what.c_str(), text.c_str());
}

void Cluster::cover(const std::vector<elastic::Action>& actions) {
  if (covered_ == nullptr) return;
  std::string transition = last_input_ + " ->";
  std::string last;
  for (const elastic::Action& action : actions) {
    std::string name = name_of(action);
    if (const auto* send = std::get_if<elastic::Send>(&action)) {
      const std::string text = elastic::to_string(*elastic::decode_message(send->message));
      name += " " + text.substr(0, text.find(' '));
    }
    if (name != last) transition += " " + name;
    last = std::move(name);
  }
  covered_->insert(std::move(transition));
}

void Cluster::violation(const std::string& what) {
  if (summary_.violation.empty())
    summary_.violation = fmt::format("{:.6f}: {}", static_cast<double>(now().time_since_epoch().count()) / 1e9, what);
}

void Cluster::send(int from, int to, Traffic traffic, std::span<const std::byte> message) {
  wire::Bytes packet{static_cast<std::byte>(traffic)};
  packet.insert(packet.end(), message.begin(), message.end());
  network_.send(from, to, std::move(packet));
}

Member Cluster::member(int index) const {
  return member_of(swarm_, index);
}

// Every member is linked to it before it asks for anything; so is every other newcomer, which may be in before it is.
void Cluster::start_newcomer(int newcomer) {
  for (int peer = 0; peer < swarm_.total(); ++peer)
    if (node(peer).running()) network_.connect(newcomer, peer);
  node(newcomer).boot();
}

void Cluster::entered(int newcomer, bool told_again) {
  trace(newcomer, "joined");
  ++summary_.joined;
  if (told_again) ++summary_.joined_late;
}

void Cluster::publish(int writer) {
  const Flags flags = memory_[static_cast<std::size_t>(writer)].flags;
  for (int reader = 0; reader < swarm_.total(); ++reader) {
    if (reader == writer) continue;
    TimePoint& last = visible_[static_cast<std::size_t>(reader * swarm_.total() + writer)];
    last = std::max(last, now() + draw(swarm_.visibility_max));
    events_.at(last, [this, reader, writer, flags] { node(reader).see(writer, flags); });
  }
}

void Cluster::count(std::span<const ChannelVerdict> verdicts) {
  for (const ChannelVerdict& verdict : verdicts) {
    summary_.resumed += verdict.next == Fate::resume ? 1 : 0;
    summary_.broken += verdict.next == Fate::broken ? 1 : 0;
  }
}

void Cluster::kill(int index) {
  events_.after(draw(milliseconds(2)), [this, index] {
    if (!node(index).crashed()) node(index).crash();
  });
}

void Cluster::crashed(int index) {
  network_.crash(index, random_.chance(1, 4));
  if (node(index).outside()) ++(checker_.was_decided(index) ? summary_.died_uninstalled : summary_.died_undecided);
  for (int peer = 0; peer < swarm_.total(); ++peer) {
    if (peer == index || host_of(peer) != host_of(index)) continue;
    const bool readable = swarm_.records_readable || random_.chance(1, 2);
    events_.after(draw(swarm_.death_notice_max), [this, peer, index, readable] {
      node(peer).learn_of_death(index, readable ? std::optional(node(index).record()) : std::nullopt);
    });
  }
}

// Nothing stands in the way of `node` deciding: it reaches a majority of its view, and nothing has gone wrong for long.
bool Cluster::could_decide(int index) const {
  if (!faults_ended_ || now() < *faults_ended_ + 2 * kQuorumTimeout) return false;
  std::set<MemberId> reached;
  for (const Member& member : node(index).view().members) {
    const int peer = static_cast<int>(member.id.value);
    const bool meets =
        node(peer).running() && node(peer).view() == node(index).view() && network_.connected(index, peer);
    if (peer == index || meets) reached.insert(member.id);
  }
  return elastic::is_majority(node(index).view(), reached);
}

// Nothing stands in the way of `newcomer`: it reaches all that are in a view, and there is one.
bool Cluster::could_enter(int newcomer) const {
  bool one = false;
  for (int peer = 0; peer < swarm_.total(); ++peer) {
    if (!node(peer).running() || node(peer).outside()) continue;
    if (!network_.connected(newcomer, peer)) return false;
    one = true;
  }
  return one;
}

void Cluster::fenced(int index, const Status& cause) {
  const bool no_quorum = cause.message().find("no quorum") != std::string_view::npos;
  if (no_quorum) ++summary_.fenced_without_quorum;
  if (no_quorum && could_decide(index)) violation(fmt::format("node {} fenced although it reaches a majority", index));
  if (node(index).outside() && !node(index).leaving() && !checker_.was_decided(index))
    violation(fmt::format("newcomer {} fenced although it was in no view", index));
  if (cause.code() == StatusCode::shut_down && !node(index).leaving())
    violation(fmt::format("node {} was shut down without leaving", index));
}

}  // namespace hora::sim
