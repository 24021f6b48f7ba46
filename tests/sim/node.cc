#include "sim/node.h"

#include <fmt/format.h>

#include <utility>

#include "sim/cluster.h"
#include "sim/report.h"

namespace hora::sim {

namespace {

MemberId member_of(int node) {
  return MemberId{static_cast<std::uint64_t>(node)};
}

}  // namespace

Node::Node(Cluster& cluster, int index, const View& founding, std::uint64_t seed)
    : cluster_(cluster),
      index_(index),
      data_({&cluster.memory(), [this] { cluster_.publish(index_); }, [this](Channel channel) { poke(channel); },
             [this](Channel channel) { ended(channel); }, [this] { return cluster_.checker().expelled(index_); },
             [this](const std::string& what) { cluster_.violation(what); }},
            index, founding, cluster.swarm().total(), cluster.swarm().elements, &cluster.random()),
      named_(cluster, *this, index),
      boundary_(cluster, *this, index),
      seed_(seed),
      entered_(!founding.members.empty()) {
  if (!founding.members.empty()) machine_.emplace(membership_options(), member_of(index), founding, seed, now());
}

elastic::MembershipOptions Node::membership_options() {
  elastic::MembershipOptions options;
  options.decide = decide;
  options.may_enter = [](const View&, const auto& reports) { return stand_at_boundary(reports); };
  options.kill_suspects = cluster_.swarm().kill_suspects;
  return options;
}

TimePoint Node::now() const {
  return cluster_.now();
}

void Node::boot() {
  if (!machine_) {
    cluster_.trace(index_, "starts outside");
    machine_.emplace(
        elastic::Membership::outsider(membership_options(), cluster_.member(index_), seed_, cluster_.now()));
    carry_out();
    return boundary_.ask();
  }
  carry_out();
  submit_next();
  named_.begin(view());
}

void Node::input(std::function<void()> handler) {
  if (!running()) return;
  if (paused_) {
    inbox_.push_back(std::move(handler));
    return;
  }
  handler();
  carry_out();
}

void Node::receive(int from, const wire::Bytes& packet) {
  const auto traffic = static_cast<Traffic>(packet.front());
  wire::Bytes message(packet.begin() + 1, packet.end());
  if (traffic == Traffic::joining)
    return input([this, from, message = std::move(message)] { boundary_.receive(from, message); });
  if (traffic == Traffic::negotiation)
    return input([this, from, message = std::move(message)] {
      cluster_.trace(index_, fmt::format("about names from {}", from));
      named_.receive(from, message);
    });
  input([this, from, message = std::move(message)] {
    cluster_.trace(index_, fmt::format("from {}", from), message);
    machine_->on_message(member_of(from), message, now());
  });
}

void Node::lose_link(int peer) {
  input([this, peer] {
    cluster_.trace(index_, fmt::format("link {} down", peer));
    machine_->on_link_down(member_of(peer), now());
  });
}

void Node::learn_of_death(int peer, std::optional<wire::Bytes> record) {
  input([this, peer, record] {
    cluster_.trace(index_, fmt::format("death of {}{}", peer, record ? "" : ", no record"));
    machine_->on_certain_death(member_of(peer), record, now());
  });
}

void Node::leave() {
  input([this] {
    leaving_ = true;
    cluster_.trace(index_, "leaves");
    machine_->leave(now());
  });
}

void Node::request_view_change() {
  input([this] {
    cluster_.trace(index_, "requests a view change");
    machine_->request_view_change({StatusCode::timed_out, "asked for by the schedule"}, now());
  });
}

void Node::admit(int newcomer) {
  cluster_.trace(index_, fmt::format("admits {}", newcomer));
  wish_ = newcomer;
  cluster_.about_to_admit(index_, newcomer);
  machine_->admit(cluster_.member(newcomer), now());
}

void Node::crash() {
  if (std::exchange(crashed_, true)) return;
  cluster_.trace(index_, "crashes");
  cluster_.crashed(index_);
}

void Node::pause(Duration duration) {
  if (!running() || paused_) return;
  cluster_.trace(index_, "pauses");
  paused_ = true;
  cluster_.events().after(duration, [this] {
    paused_ = false;
    if (!running()) return;
    cluster_.trace(index_, "wakes");
    for (const auto& handler : std::exchange(inbox_, {})) input(handler);
    for (const Channel channel : kChannels) poke(channel);
    arm();
  });
}

void Node::carry_out() {
  while (!crashed_) {
    std::vector<elastic::Action> actions = machine_->take_actions();
    if (actions.empty()) break;
    cluster_.cover(actions);
    for (elastic::Action& action : actions) {
      if (crashed_) return;
      carry_out(action);
      if (actions_until_crash_ > 0 && --actions_until_crash_ == 0) crash();
    }
  }
  arm();
}

void Node::carry_out(elastic::Action& action) {
  if (auto* freeze = std::get_if<elastic::Freeze>(&action)) {
    cluster_.trace(index_, fmt::format("freeze {}", freeze->epoch.value));
    cluster_.events().after(cluster_.draw(cluster_.swarm().freeze_max),
                            [this, epoch = freeze->epoch] { input([this, epoch] { report(epoch); }); });
  } else if (auto* persist = std::get_if<elastic::Persist>(&action)) {
    record_ = std::move(persist->record);
    if (!elastic::decode_record(record_)) cluster_.violation("a record cannot be read back");
  } else if (auto* send = std::get_if<elastic::Send>(&action)) {
    told_again_ = told_again_ || outside();
    cluster_.send(index_, static_cast<int>(send->to.value), Traffic::membership, send->message);
  } else if (auto* next = std::get_if<elastic::Install>(&action)) {
    install(*next);
  } else if (auto* fence = std::get_if<elastic::Fence>(&action)) {
    cluster_.trace(index_, fence->cause.to_string());
    cluster_.fenced(index_, fence->cause);
  } else if (auto* kill = std::get_if<elastic::Kill>(&action)) {
    cluster_.trace(index_, fmt::format("kills {}", kill->suspect.value));
    cluster_.kill(static_cast<int>(kill->suspect.value));
  }
}

void Node::report(Epoch epoch) {
  if (epoch != machine_->view().epoch) return;
  data_.freeze();
  Report report;
  for (const Channel channel : kChannels) {
    report.channels.push_back(data_.report(channel));
    report.channels.back().expired = expired(channel);
  }
  named_.report(report);
  machine_->on_report(epoch, encode(report), now());
}

void Node::install(const elastic::Install& install) {
  cluster_.trace(index_, fmt::format("install {}", elastic::to_string(install.next)));
  const Epoch before{install.next.epoch.value - 1};
  cluster_.checker().entered(index_, before, install.next, install.verdict);
  const auto verdict = decode_verdict(install.verdict);
  if (!verdict) return cluster_.violation("a verdict cannot be decoded");
  cluster_.count(verdict->channels);
  const bool joins = !std::exchange(entered_, true);
  if (joins) {
    Past past = boundary_.take_past();
    data_.enter(install.next, verdict->channels, std::move(past.channels));
    named_.take_past(std::move(past.named));
    cluster_.entered(index_, told_again_);
  } else {
    named_.before_install(*verdict);
    data_.install(install.next, verdict->channels);
  }
  if (data_.lost()) return;
  named_.after_install(install.next, *verdict);
  cluster_.checker().settled(index_, install.next.epoch, past());
  if (const auto wish = std::exchange(wish_, std::nullopt); wish && !install.next.rank_of(member_of(*wish)))
    cluster_.left_out();
  resume(joins);
}

// What waited for the install goes on.
void Node::resume(bool joins) {
  const auto held = boundary_.release();
  if (joins) {
    submit_next();
  } else if (std::exchange(waiting_, false) || held[static_cast<std::size_t>(Channel::ordered)]) {
    submit();
  }
  named_.begin_step();
  // What expired after it was reported still waits for a verdict.
  for (const Channel channel : kChannels)
    if (expired(channel))
      cluster_.events().after({}, [this, channel, sequence = data_.done(channel) + 1] { expire(channel, sequence); });
}

void Node::arm() {
  const std::uint64_t armed = ++armed_;
  if (!running() || paused_) return;
  const auto due = machine_->next_deadline();
  if (!due) return;
  cluster_.events().at(*due, [this, armed] {
    if (armed != armed_) return;
    input([this, armed] {
      if (armed == armed_) machine_->on_deadline(now());
    });
  });
}

void Node::see(int writer, const Flags& flags) {
  if (crashed_) return;
  data_.see(writer, flags);  // memory needs nobody awake
  for (const Channel channel : kChannels) poke(channel);
}

void Node::poke(Channel channel) {
  bool& poked = poked_[static_cast<std::size_t>(channel)];
  if (std::exchange(poked, true)) return;
  cluster_.events().after(cluster_.draw(std::chrono::microseconds(20)), [this, channel] {
    poked_[static_cast<std::size_t>(channel)] = false;
    step(channel);
  });
}

void Node::step(Channel channel) {
  if (!running() || paused_ || !data_.active(channel)) return;
  cluster_.before_step(index_, channel);
  if (running() && !paused_) data_.step(channel);
}

bool Node::work_done(Channel channel) const {
  return channel == Channel::ordered ? data_.done(channel) >= cluster_.swarm().operations : named_.finished();
}

void Node::ended(Channel channel) {
  if (channel == Channel::ordered)
    submit_next();
  else
    named_.operation_ended();
}

void Node::submit_next() {
  const std::uint64_t sequence = data_.done(Channel::ordered) + 1;
  if (sequence > cluster_.swarm().operations) return boundary_.look();
  Duration think = cluster_.draw(cluster_.swarm().think_max);
  if (cluster_.is_late(index_, Channel::ordered, sequence)) think += cluster_.swarm().operation_timeout * 2;
  cluster_.events().after(think, [this, sequence] {
    // It may have become an error before it was called.
    if (data_.done(Channel::ordered) + 1 == sequence) submit();
  });
}

void Node::submit() {
  if (!running() || leaving_ || data_.active(Channel::ordered)) return;
  if (paused_) {
    inbox_.emplace_back([this] { submit(); });
    return;
  }
  if (data_.frozen()) {  // the token is not to be had before the install
    waiting_ = true;
    return;
  }
  const std::uint64_t sequence = data_.done(Channel::ordered) + 1;
  if (sequence <= cluster_.swarm().operations && !boundary_.holds(Channel::ordered)) start(Channel::ordered);
}

void Node::start(Channel channel) {
  const std::uint64_t sequence = data_.done(channel) + 1;
  started_[static_cast<std::size_t>(channel)] = now();
  cluster_.events().after(cluster_.swarm().operation_timeout, [this, channel, sequence] { expire(channel, sequence); });
  data_.start(channel, cluster_.plan(channel, sequence));
}

bool Node::expired(Channel channel) const {
  return data_.active(channel) &&
         now() - started_[static_cast<std::size_t>(channel)] >= cluster_.swarm().operation_timeout;
}

void Node::expire(Channel channel, std::uint64_t sequence) {
  input([this, channel, sequence] {
    if (!data_.active(channel) || data_.done(channel) + 1 != sequence) return;
    cluster_.trace(index_, fmt::format("operation {} expired", sequence));
    machine_->request_view_change({StatusCode::timed_out, fmt::format("operation {}", sequence)}, now());
  });
}

}  // namespace hora::sim
