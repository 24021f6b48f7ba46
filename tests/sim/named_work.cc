#include "sim/named_work.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "sim/cluster.h"

namespace hora::sim {

NamedWork::NamedWork(Cluster& cluster, Node& node, int index) : cluster_(cluster), node_(node), index_(index) {
  for (int name = 0; name < cluster.swarm().tensors; ++name) tensors_[fmt::format("tensor{}", name)];
}

void NamedWork::begin(const View& view) {
  negotiate(view);
  begin_step();
}

void NamedWork::take_past(NamedPast past) {
  for (auto& [name, outcomes] : past) {
    steps_ = outcomes.size();
    tensors_[name].outcomes = std::move(outcomes);
  }
}

NamedPast NamedWork::past() const {
  NamedPast past;
  for (const auto& [name, tensor] : tensors_) past[name] = tensor.outcomes;
  return past;
}

bool NamedWork::idle() const {
  return std::all_of(tensors_.begin(), tensors_.end(),
                     [this](const auto& tensor) { return tensor.second.outcomes.size() == steps_; });
}

bool NamedWork::finished() const {
  return steps_ >= cluster_.swarm().operations && idle();
}

// Some member sometimes disagrees.
Signature NamedWork::request(const std::string& name, std::uint64_t step) const {
  Signature signature;
  signature.kind = Collective::allreduce;
  signature.dtype = DataType::float32;
  signature.count = 1 + (name.back() + step / 2) % 3;
  if (cluster_.disagrees(index_, name, step)) signature.count += 10;
  return signature;
}

void NamedWork::begin_step() {
  if (!node_.running() || node_.leaving() || !idle()) return;
  if (steps_ >= cluster_.swarm().operations || node_.holds(Channel::negotiated)) return node_.look();
  ++steps_;
  for (const auto& [name, tensor] : tensors_) {
    Duration think = cluster_.draw(cluster_.swarm().think_max);
    if (name == "tensor0" && cluster_.is_late(index_, Channel::negotiated, steps_))
      think += cluster_.swarm().operation_timeout * 2;
    cluster_.events().after(think, [this, name = name] { node_.input([this, name] { submit(name); }); });
  }
}

void NamedWork::submit(const std::string& name) {
  if (node_.leaving()) return;
  Tensor& tensor = tensors_[name];
  if (!tensor.next_outcomes.empty()) {
    NameOutcome outcome = std::move(tensor.next_outcomes.front());
    tensor.next_outcomes.erase(tensor.next_outcomes.begin());
    return end(name, std::move(outcome));
  }
  tensor.pending = true;
  if (node_.data().frozen()) return;  // the next view's negotiator gets it
  offer(name);
  drive();
}

void NamedWork::offer(const std::string& name) {
  const auto entry = negotiator_->submit(name, request(name, steps_), {}, cluster_.now());
  if (entry.ok()) return;
  if (entry.status().code() == StatusCode::internal || entry.status().code() == StatusCode::invalid_argument)
    cluster_.violation(fmt::format("node {}: {}", index_, entry.status().to_string()));
  end(name, {0, entry.status().code(), std::string(entry.status().message())});
}

void NamedWork::receive(int from, const wire::Bytes& message) {
  const auto epoch = negotiation::epoch_of(message);
  if (!epoch) return cluster_.violation("a message of the negotiation has no epoch");
  if (node_.outside() || *epoch > view_.epoch) {
    early_.emplace_back(from, message);
  } else if (!node_.data().frozen()) {  // after its report nothing may become known to this node
    negotiator_->on_message(cluster_.member(from).id, message, cluster_.now());
    drive();
  }
}

// The loop of whoever holds the token.
void NamedWork::drive() {
  if (!negotiator_ || node_.data().frozen() || !node_.running()) return;
  negotiator_->poll();
  act();
  while (!node_.leaving() && !node_.data().active(Channel::negotiated)) {
    const negotiation::Execution* execution = negotiator_->next_execution();
    act();
    if (execution == nullptr) break;
    group_.clear();
    for (const negotiation::EntryId entry : execution->entries) group_.emplace_back(negotiator_->name_of(entry));
    from_negotiator_ = true;
    cluster_.checker().executes(index_, view_.epoch, execution->position, group_);
    start();
  }
  arm();
}

void NamedWork::start() {
  cluster_.trace(index_, fmt::format("executes {}", fmt::join(group_, "+")));
  for (const std::string& name : group_)
    if (!tensors_[name].pending) cluster_.violation(fmt::format("node {} executes {} unasked", index_, name));
  node_.start(Channel::negotiated);
}

void NamedWork::operation_ended() {
  const Outcome& outcome = node_.data().outcomes(Channel::negotiated).back();
  if (std::exchange(from_negotiator_, false)) negotiator_->finish_execution();
  const std::uint64_t sequence = node_.data().done(Channel::negotiated);
  const std::vector<std::string> group = std::exchange(group_, {});
  for (const std::string& name : outcome.broken ? breaking_ : group)
    end(name, {sequence, outcome.broken ? StatusCode::peer_failed : StatusCode::ok, ""});
  cluster_.events().after({}, [this] { node_.input([this] { drive(); }); });
}

void NamedWork::act() {
  if (!negotiator_->has_actions()) return;
  negotiation::Actions actions = negotiator_->take_actions();
  for (const negotiation::Send& send : actions.sends)
    cluster_.send(index_, static_cast<int>(send.to.value), Traffic::negotiation, send.message);
  for (const negotiation::Failure& failure : actions.failures) {
    if (failure.status.code() == StatusCode::internal) cluster_.violation(failure.status.to_string());
    end(std::string(negotiator_->name_of(failure.entry)),
        {0, failure.status.code(), std::string(failure.status.message())});
  }
}

void NamedWork::end(const std::string& name, NameOutcome outcome) {
  cluster_.trace(index_,
                 fmt::format("{} ends: {} in {} {}", name, to_string(outcome.code), outcome.sequence, outcome.text));
  cluster_.named_outcome(outcome.code);
  Tensor& tensor = tensors_[name];
  tensor.pending = false;
  tensor.outcomes.push_back(std::move(outcome));
  if (idle()) cluster_.events().after({}, [this] { node_.input([this] { begin_step(); }); });
}

void NamedWork::report(Report& report) const {
  if (node_.data().active(Channel::negotiated)) report.group = group_;
  report.rejections = negotiator_->rejections();
  report.steps = steps_;
  report.between_steps = idle();
}

void NamedWork::before_install(const Verdict& verdict) {
  breaking_ = verdict.group;
}

void NamedWork::after_install(const View& next, const Verdict& verdict) {
  if (negotiator_) {
    for (const negotiation::Rejection& left : negotiator_->conclude(verdict.rejections))
      for (negotiation::Round round = 0; round < left.submissions; ++round)
        tensors_[left.name].next_outcomes.push_back({0, left.status.code(), std::string(left.status.message())});
    act();
  }
  from_negotiator_ = false;
  if (!node_.data().active(Channel::negotiated)) {
    group_.clear();
    const bool again = verdict.channels[static_cast<std::size_t>(Channel::negotiated)].next != Fate::broken;
    if (again && !verdict.group.empty() && !node_.leaving()) {
      group_ = verdict.group;
      start();
    }
  }
  negotiate(next);
}

// Begins the negotiation of a view with everything that is pending here.
void NamedWork::negotiate(const View& view) {
  view_ = view;
  negotiation::NegotiatorOptions options;
  options.operation_timeout = cluster_.swarm().operation_timeout;
  options.stall_warning = options.operation_timeout / 4;
  negotiator_ = std::make_unique<negotiation::Negotiator>(options, view_, cluster_.member(index_).id, nullptr);
  std::vector<std::string> pending;
  for (auto& [name, tensor] : tensors_) {
    if (tensor.pending && !tensor.next_outcomes.empty()) {  // submitted while frozen
      NameOutcome outcome = std::move(tensor.next_outcomes.front());
      tensor.next_outcomes.erase(tensor.next_outcomes.begin());
      end(name, std::move(outcome));
    }
    if (tensor.pending && std::find(group_.begin(), group_.end(), name) == group_.end()) pending.push_back(name);
  }
  while (!pending.empty()) {
    const auto next = pending.begin() + static_cast<std::ptrdiff_t>(cluster_.random().below(pending.size()));
    offer(*next);
    pending.erase(next);
  }
  for (auto& [from, message] : std::exchange(early_, {})) receive(from, message);
  drive();
}

void NamedWork::arm() {
  const std::uint64_t armed = ++armed_;
  const auto due = negotiator_->next_deadline();
  if (!due) return;
  cluster_.events().at(*due, [this, armed] {
    if (armed != armed_) return;
    node_.input([this, armed] {
      if (armed != armed_ || node_.data().frozen()) return;
      negotiator_->on_deadline(cluster_.now());
      drive();
    });
  });
}

}  // namespace hora::sim
