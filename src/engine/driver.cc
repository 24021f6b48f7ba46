// What the holder of the token does: start operations, step them, end them, and run the negotiation.
#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.h"
#include "engine/driving.h"
#include "engine/engine.h"

namespace hora::engine {

Engine::Engine(const EngineOptions& options, const View& view, const Positions& done, MemberId self,
               GroupTransport& transport, BoardFactory make_board, Messenger& negotiation_link, Messenger& flush_link,
               Messenger& device_link, const Clock& clock, const Log& log)
    : options_(options),
      self_(self),
      transport_(transport),
      make_board_(std::move(make_board)),
      negotiation_link_(negotiation_link),
      flush_link_(flush_link),
      device_link_(device_link),
      clock_(clock),
      log_(log),
      installed_epoch_(view.epoch.value),
      view_(view),
      sequences_(done),
      ordered_work_(*this),
      views_(view) {
  Execution& ordered = execution(Channel::ordered);
  ordered.extents.resize(1);
  ordered.works = {&ordered_work_};
  renegotiate();
}

Engine::~Engine() = default;

void Engine::begin_ordered() noexcept {
  if (fenced_.load(std::memory_order_acquire)) return ordered_work_.finish(fence_cause_, {});
  std::uint64_t& number = sequence(Channel::ordered);
  if (!broken_sequences_.empty()) {
    // Before anything else: where it was called in time it took its number.
    if (const auto broken = broken_sequences_.find(number + 1); broken != broken_sequences_.end()) {
      ++number;
      ordered_work_.finish(broken->second.status, {broken->second.epoch, 0});
      broken_sequences_.erase(broken);
      return answer_flush_questions();
    }
  }
  if (const auto refused = refusal_of(ordered_work_)) return ordered_work_.finish(refused->status, {refused->epoch, 0});
  place_own_part(ordered_work_.signature, ordered_work_.extent, view_, self_);
  Execution& ordered = execution(Channel::ordered);
  ++number;
  ordered.extents[0] = ordered_work_.extent;
  ordered.operation = {Channel::ordered, number, ordered_work_.signature, ordered.extents};
  ordered.active = true;
  if (const Step step = transport_.start(ordered.operation); step != Step::pending)
    end_execution(Channel::ordered, step);
}

// A call that a view since the one that its caller saw does not allow takes no number. All members see the same view at
// this call (see install()): all refuse it, or none, and all see the same one afterwards.
std::optional<Engine::Broken> Engine::refusal_of(Work& work) const {
  Status status;
  const auto refuses = [&](const View& view) { return !(status = bind(work, view)).ok(); };
  if (work.errand != nullptr) return refuses(view_) ? std::optional(Broken{status, view_.epoch}) : std::nullopt;
  if (work.meaning.epoch == view_.epoch) return std::nullopt;
  const View* const refusing = views_.first_after(work.meaning.epoch, refuses);
  return refusing != nullptr ? std::optional(Broken{status, refusing->epoch}) : std::nullopt;
}

bool Engine::drive_once() noexcept {
  bool moved = false;
  if (inbox_filled_.load(std::memory_order_acquire)) moved = accept_inbox();
  if (unsettled_.load(std::memory_order_relaxed)) [[unlikely]]
    moved |= settle();
  if (execution(Channel::ordered).active) moved |= step_channel(Channel::ordered);
  if (!negotiated_.empty()) {
    if (execution(Channel::negotiated).active) moved |= step_channel(Channel::negotiated);
    moved |= drive_negotiation();
  }
  return moved;
}

bool Engine::settle() {
  const std::uint64_t moves = transport_.moves();
  if (transport_.settle()) unsettled_.store(false, std::memory_order_relaxed);
  return transport_.moves() != moves;
}

bool Engine::step_channel(Channel channel) {
  const std::uint64_t moves = transport_.moves();
  const Step step = transport_.step(channel);
  if (step == Step::pending) return transport_.moves() != moves;
  end_execution(channel, step);
  return true;
}

void Engine::end_execution(Channel channel, Step how) {
  Execution& ended = execution(channel);
  ended.active = false;
  ended.expired = false;
  ended.waiting_since.reset();
  const Epoch epoch = std::exchange(ended.committed_in, std::nullopt).value_or(view_.epoch);
  const Outcome outcome{epoch, transport_.contributors(channel)};
  const Status status = how == Step::done ? Status() : mismatch_of(channel);
  HORA_FAILPOINT("engine.operation_ended");
  if (!flush_questions_.empty()) [[unlikely]]
    answer_flush_questions();
  if (channel == Channel::ordered) return finish_ordered(status, outcome);
  // The names are free before their callers know, since they may submit them again at once.
  if (ended.from_negotiator) negotiator_->finish_execution();
  auto errands =
      std::count_if(ended.works.begin(), ended.works.end(), [](const Work* w) { return w->errand != nullptr; });
  for (Work* work : ended.works) {
    if (work->errand != nullptr) --errands;
    finish(work, status, outcome, errands > 0);
  }
  ended.works.clear();
  if (ended.following.empty()) return;
  ended.works.swap(ended.following);
  ended.from_negotiator = false;
  start_group(ended.following_signature);
}

void Engine::finish_ordered(const Status& status, const Outcome& outcome) noexcept {
  const bool attended = attended_ == &ordered_work_;
  ordered_work_.finish(status, outcome);
  if (!attended) wake_waiting();  // its caller, who let another thread drive
}

// The end of a negotiated work: its caller may reuse it as soon as it sees the end.
void Engine::finish(Work* work, const Status& status, const Outcome& outcome, bool more) noexcept {
  if (work->accepted) {
    negotiated_[work->position] = negotiated_.back();
    negotiated_[work->position]->position = work->position;
    negotiated_.pop_back();
    work->accepted = false;
  }
  Errand* errand = work->errand;
  if (Recorder* recorder = recorder_.load(std::memory_order_acquire); recorder != nullptr && errand == nullptr)
      [[unlikely]]
    recorder->named(work->name, status, outcome, work->signature, work->extent);
  unfinished_.fetch_sub(1, std::memory_order_seq_cst);
  const bool attended = work == attended_;
  work->finish(status, outcome);
  release(work);
  if (errand != nullptr) {
    errands_.fetch_sub(1, std::memory_order_seq_cst);
    errand->ended({status, outcome.epoch, outcome.contributors, more});
  }
  if (!attended) wake_waiting();
}

bool Engine::drive_negotiation() {
  negotiator_->poll();
  bool moved = false;
  if (negotiator_->has_actions()) {
    apply_negotiation_actions();
    moved = true;
  }
  while (!execution(Channel::negotiated).active) {
    const negotiation::Execution* group = negotiator_->next_execution();
    if (group == nullptr) break;
    Execution& next = execution(Channel::negotiated);
    next.works.clear();
    for (const negotiation::EntryId entry : group->entries) next.works.push_back(by_entry_[entry]);
    next.from_negotiator = true;
    start_group(group->signature);
    moved = true;
  }
  return moved;
}

// Starts the works of the negotiated execution as one operation.
void Engine::start_group(const Signature& signature) {
  Execution& group = execution(Channel::negotiated);
  group.extents.clear();
  for (const Work* work : group.works) group.extents.push_back(work->extent);
  group.operation = {Channel::negotiated, ++sequence(Channel::negotiated), signature, group.extents};
  group.active = true;
  HORA_FAILPOINT("engine.group_started");
  if (const Step step = transport_.start(group.operation); step != Step::pending)
    end_execution(Channel::negotiated, step);
}

bool Engine::accept_inbox() noexcept {
  std::vector<Work*> works;
  std::deque<std::pair<MemberId, wire::Bytes>> messages;
  {
    const MutexLock lock(inbox_mutex_);
    works.swap(submitted_);
    messages.swap(messages_);
    flush_questions_.insert(flush_questions_.end(), asked_.begin(), asked_.end());
    asked_.clear();
    inbox_filled_.store(false, std::memory_order_seq_cst);
  }
  for (Work* work : works) accept(work);
  for (auto& [from, message] : messages) {
    const auto epoch = negotiation::epoch_of(message);
    if (epoch && *epoch > view_.epoch)
      early_messages_.emplace_back(from, std::move(message));
    else if (!frozen_)  // later than the report of this member: nobody would know of it
      negotiator_->on_message(from, message, clock_.now());
  }
  if (!frozen_) negotiator_->poll();
  if (negotiator_->has_actions()) apply_negotiation_actions();
  if (!flush_questions_.empty()) answer_flush_questions();
  return true;
}

void Engine::accept(Work* work) noexcept {
  if (fenced_.load(std::memory_order_acquire)) return finish(work, fence_cause_, {view_.epoch, 0});
  if (const auto broken = broken_names_.lower_bound(work->name);
      broken != broken_names_.end() && broken->first == work->name) {
    finish(work, broken->second.status, {broken->second.epoch, 0});
    broken_names_.erase(broken);
    return;
  }
  if (const auto refused = refusal_of(*work)) return finish(work, refused->status, {refused->epoch, 0});
  const auto entry = negotiator_->submit(work->name, work->signature, work->shape, clock_.now());
  if (!entry.ok()) return finish(work, entry.status(), {work->meaning.epoch, 0});  // an error of this rank alone
  place_own_part(work->signature, work->extent, view_, self_);
  work->accepted = true;
  work->position = negotiated_.size();
  negotiated_.push_back(work);
  if (by_entry_.size() <= entry.value()) by_entry_.resize(entry.value() + 1);
  by_entry_[entry.value()] = work;
  if (negotiator_->has_actions()) apply_negotiation_actions();
}

void Engine::apply_negotiation_actions() {
  negotiation::Actions actions = negotiator_->take_actions();
  for (const auto& send : actions.sends) {
    if (const Status status = negotiation_link_.send(send.to, send.message); !status.ok())
      log_(LogLevel::warn, "negotiation", "{}", status.message());
  }
  for (const auto& failure : actions.failures) finish(by_entry_[failure.entry], failure.status, {view_.epoch, 0});
  for (const std::string& stall : actions.stalls) log_(LogLevel::warn, "negotiation", "{}", stall);
}

// Looks after operations that have waited for long, and returns when to look again. Called where a driver sleeps
// anyway, so that the hot path reads no clock.
Duration Engine::check_patience() {
  const TimePoint now = clock_.now();
  Duration next = std::chrono::hours(1);
  for (const Channel channel : kChannels)
    if (execution(channel).active) next = std::min(next, check_execution(channel, now));
  if (auto deadline = negotiator_->next_deadline()) {
    if (*deadline <= now) {
      negotiator_->on_deadline(now);
      if (negotiator_->has_actions()) apply_negotiation_actions();
      deadline = negotiator_->next_deadline();
    }
    if (deadline) next = std::min(next, *deadline - now);
  }
  return std::max(next, Duration(std::chrono::milliseconds(1)));
}

Duration Engine::check_execution(Channel channel, TimePoint now) {
  Execution& active = execution(channel);
  if (!active.waiting_since) {
    active.waiting_since = now;
    active.warn_after = options_.stall_warning;
  }
  const Duration waited = now - *active.waiting_since;
  const auto describe = [&] {
    std::string missing;
    for (const Rank rank : transport_.missing(channel))
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", rank.value);
    return fmt::format("{} {} #{} has waited {:.1f} s for rank {}",
                       channel == Channel::ordered ? "ordered" : "negotiated",
                       to_string(active.operation.signature.kind), active.operation.sequence,
                       std::chrono::duration<double>(waited).count(), missing.empty() ? "?" : missing);
  };
  if (waited >= active.warn_after) {
    log_(LogLevel::warn, "stall", "{}", describe());
    active.warn_after *= 2;
  }
  if (waited >= options_.operation_timeout && !active.expired && requests_ != nullptr) {
    active.expired = true;
    requests_->request_view_change(Status(StatusCode::timed_out, describe() + " (HORA_OPERATION_TIMEOUT_MS)"));
  }
  const Duration deadline = active.expired ? Duration(std::chrono::hours(1)) : options_.operation_timeout;
  return std::min(active.warn_after, deadline) - waited;
}

Status Engine::mismatch_of(Channel channel) const {
  const Operation& operation = execution(channel).operation;
  std::string said;
  int rank = 0;
  for (const Signature& signature : transport_.signatures(channel)) {
    said += fmt::format("{}rank {} called {}", said.empty() ? "" : "; ", rank++, to_string(signature.kind));
    if (signature.kind == Collective::allreduce) said += fmt::format(" {}", to_string(signature.op));
    if (signature.kind == Collective::broadcast) said += fmt::format(" from rank {}", signature.root.value);
    if (signature.kind != Collective::barrier)
      said += fmt::format(" of {} {}", signature.count, to_string(signature.dtype));
  }
  return {StatusCode::mismatch,
          fmt::format("operation #{} of this communicator differs between ranks: {}", operation.sequence, said)};
}

}  // namespace hora::engine
