// How a view change interrupts the engine and resumes it: freeze, report, install. Called by the sentinel.
#include "collectives/recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/failpoint.h"
#include "engine/driving.h"
#include "engine/engine.h"

namespace hora::engine {

namespace {

// A member's promise: what its channels did, the names in the group that its negotiated channel executes, so that every
// survivor can execute (or fail) the same group, and what it knows to be rejected, so that every survivor does.
struct Report {
  std::vector<ChannelReport> channels;
  std::vector<std::string> group;
  std::vector<negotiation::Reject> rejections;
};

struct Verdict {
  std::vector<ChannelVerdict> channels;
  std::vector<std::string> group;  // of the negotiated operation after the committed ones; empty: nobody has it
  std::vector<negotiation::Reject> rejections;  // known to any survivor
  bool timed_out[kChannelCount] = {};           // the broken operation expired
};

void encode(wire::Writer& out, const std::vector<std::string>& names) {
  out.u32(static_cast<std::uint32_t>(names.size()));
  for (const std::string& name : names) out.string(name);
}

std::vector<std::string> decode_names(wire::Reader& in) {
  std::vector<std::string> names(in.count(4));
  for (std::string& name : names) name = in.string();
  return names;
}

void encode(wire::Writer& out, const std::vector<negotiation::Reject>& rejections) {
  out.u32(static_cast<std::uint32_t>(rejections.size()));
  for (const negotiation::Reject& reject : rejections) {
    out.string(reject.name);
    out.u64(reject.round);
    out.u8(static_cast<std::uint8_t>(reject.code));
    out.string(reject.text);
  }
}

std::vector<negotiation::Reject> decode_rejections(wire::Reader& in) {
  std::vector<negotiation::Reject> rejections(in.count(4 + 8 + 1 + 4));
  for (negotiation::Reject& reject : rejections) {
    reject.name = in.string();
    reject.round = in.u64();
    reject.code = static_cast<StatusCode>(in.below(static_cast<std::uint8_t>(StatusCode::internal) + 1));
    reject.text = in.string();
  }
  return rejections;
}

std::optional<Report> decode_report(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  auto channels = recovery::decode_reports(in.bytes());
  Report report;
  report.group = decode_names(in);
  report.rejections = decode_rejections(in);
  if (!channels || !in.finished()) return std::nullopt;
  report.channels = std::move(*channels);
  return report;
}

wire::Bytes encode(const Verdict& verdict) {
  wire::Writer out;
  out.bytes(recovery::encode_verdicts(verdict.channels));
  encode(out, verdict.group);
  encode(out, verdict.rejections);
  for (const bool expired : verdict.timed_out) out.boolean(expired);
  return out.take();
}

std::optional<Verdict> decode_verdict(std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  auto channels = recovery::decode_verdicts(in.bytes());
  Verdict verdict;
  verdict.group = decode_names(in);
  verdict.rejections = decode_rejections(in);
  for (bool& expired : verdict.timed_out) expired = in.boolean();
  if (!channels || !in.finished()) return std::nullopt;
  verdict.channels = std::move(*channels);
  return verdict;
}

// The last rejection of each name that any survivor has heard, but for those that all have: these are settled, and
// would only fill the record, view after view.
std::vector<negotiation::Reject> unsettled_rejections(const std::map<MemberId, Report>& reports,
                                                      std::size_t survivors) {
  struct Heard {
    const negotiation::Reject* last;
    std::size_t by = 0;  // members
  };
  std::map<std::string_view, Heard> names;
  for (const auto& [member, report] : reports) {
    for (const negotiation::Reject& reject : report.rejections) {
      Heard& heard = names.try_emplace(reject.name, &reject).first->second;
      if (reject.round > heard.last->round) heard = {&reject};
      if (reject.round == heard.last->round) ++heard.by;
    }
  }
  std::vector<negotiation::Reject> unsettled;
  for (const auto& [name, heard] : names)
    if (heard.by < survivors) unsettled.push_back(*heard.last);
  return unsettled;
}

}  // namespace

wire::Bytes Engine::decide(const View& old, const View& next, const std::map<MemberId, wire::Bytes>& reports) {
  std::map<MemberId, std::vector<ChannelReport>> channels;
  std::map<MemberId, Report> decoded;
  for (const auto& [member, bytes] : reports) {
    auto report = decode_report(bytes);
    if (!report) continue;
    channels[member] = report->channels;
    decoded[member] = std::move(*report);
  }
  Verdict verdict;
  verdict.channels = recovery::decide(old, next, channels);
  verdict.rejections = unsettled_rejections(decoded, reports.size());
  for (const auto& [member, report] : decoded) {
    for (const Channel channel : kChannels) {
      const auto index = static_cast<std::size_t>(channel);
      const ChannelReport& said = report.channels[index];
      if (said.done != verdict.channels[index].committed || !said.active) continue;
      verdict.timed_out[index] |= said.expired;
      if (channel == Channel::negotiated) verdict.group = report.group;
    }
  }
  return encode(verdict);
}

bool Engine::may_enter(const View& old, const std::map<MemberId, wire::Bytes>& reports) {
  std::optional<Positions> common;
  for (const auto& [member, bytes] : reports) {
    const auto report = decode_report(bytes);
    if (!report || !old.rank_of(member)) return false;
    if (!report->group.empty()) return false;  // also where it is DONE, and not yet handed out
    Positions done{};
    for (const Channel channel : kChannels) {
      const ChannelReport& said = report->channels[static_cast<std::size_t>(channel)];
      if (said.active) return false;
      done[static_cast<std::size_t>(channel)] = said.done;
    }
    if (common && *common != done) return false;
    common = done;
  }
  return common.has_value();
}

std::optional<Positions> Engine::positions_of(std::span<const std::byte> bytes) {
  const auto verdict = decode_verdict(bytes);
  if (!verdict) return std::nullopt;
  Positions done{};
  for (const Channel channel : kChannels)
    done[static_cast<std::size_t>(channel)] = verdict->channels[static_cast<std::size_t>(channel)].committed;
  return done;
}

void Engine::freeze() {
  if (frozen_ || fenced_.load(std::memory_order_acquire)) return;  // fenced: nobody would ever give the token back
  halted_.store(1, std::memory_order_seq_cst);
  wake_driver();
  token_.acquire();
  if (inbox_filled_.load(std::memory_order_acquire)) accept_inbox();  // it counts if it came before the report
  frozen_ = true;
  HORA_FAILPOINT("recovery.frozen");
}

wire::Bytes Engine::report() {
  freeze();
  if (!frozen_) return {};
  std::vector<ChannelReport> channels;
  for (const Channel channel : kChannels) {
    ChannelReport said = transport_.report(channel);
    said.expired = execution(channel).active && execution(channel).expired;
    channels.push_back(std::move(said));
  }
  std::vector<std::string> group;
  if (execution(Channel::negotiated).active)
    for (const Work* work : execution(Channel::negotiated).works) group.push_back(work->name);
  wire::Writer out;
  out.bytes(recovery::encode_reports(channels));
  encode(out, group);
  encode(out, negotiator_->rejections());
  return out.take();
}

Status Engine::install(const View& next, std::span<const std::byte> bytes) {
  freeze();
  if (!frozen_) return {};
  const auto verdict = decode_verdict(bytes);
  if (!verdict) return {StatusCode::internal, fmt::format("the verdict for epoch {} is malformed", next.epoch.value)};

  if (inbox_filled_.load(std::memory_order_acquire)) accept_inbox();
  transport_.install(next, verdict->channels);
  HORA_FAILPOINT("recovery.transport_installed");
  execution(Channel::negotiated).following.clear();  // its fate is in this verdict
  // A committed operation was released in the old view elsewhere, so it ends in the old view here too: the view that
  // callers see changes at the same operation on every member.
  for (const Channel channel : kChannels) {
    Execution& behind = execution(channel);
    const bool committed = behind.operation.sequence <= verdict->channels[static_cast<std::size_t>(channel)].committed;
    if (!behind.active || !committed) {
      behind.committed_in.reset();
      continue;
    }
    // Where members share no memory its result comes later, from another member.
    if (!behind.committed_in) behind.committed_in = view_.epoch;
    step_channel(channel);
  }
  // So does what was rejected, also where nobody has submitted it yet.
  for (const negotiation::Rejection& left : negotiator_->conclude(verdict->rejections))
    for (negotiation::Round round = 0; round < left.submissions; ++round)
      broken_names_.emplace(left.name, Broken{left.status, view_.epoch});
  if (negotiator_->has_actions()) apply_negotiation_actions();
  view_ = next;
  execution(Channel::negotiated).from_negotiator = false;  // the one of the new view knows nothing of it
  {
    const MutexLock lock(watcher_mutex_);
    views_.install(next);
    if (watcher_ != nullptr) watcher_->entered(next);
  }
  for (const Channel channel : kChannels) {
    const auto index = static_cast<std::size_t>(channel);
    execution(channel).expired = false;  // what expired too late for this verdict asks for another one
    const ChannelVerdict& fate = verdict->channels[index];
    if (fate.next == Fate::broken)
      break_operation(channel, fate, verdict->group,
                      verdict->timed_out[index] ? StatusCode::timed_out : StatusCode::peer_failed);
  }
  const ChannelVerdict& negotiated = verdict->channels[static_cast<std::size_t>(Channel::negotiated)];
  if (negotiated.next != Fate::broken) restart_group(negotiated.committed, verdict->group);
  renegotiate();
  unsettled_.store(!transport_.settle(), std::memory_order_relaxed);  // relaxed: the token orders it
  if (!flush_questions_.empty()) answer_flush_questions();            // what was broken here has ended
  // seq_cst: waiters sleep on other words. After the view itself, which they then adopt.
  installed_epoch_.store(next.epoch.value, std::memory_order_seq_cst);
  thaw();
  return {};
}

// The operation after the committed ones ends in the same error everywhere, also where it was not called yet, or where
// the one before it still waits for its result.
void Engine::break_operation(Channel channel, const ChannelVerdict& verdict, const std::vector<std::string>& group,
                             StatusCode code) {
  const std::uint64_t number = verdict.committed + 1;
  const Status status(code, verdict.cause);
  const Outcome nothing{view_.epoch, 0};
  Execution& broken = execution(channel);
  const bool begun = broken.active && broken.operation.sequence == number;
  if (begun) {
    broken.active = false;
    broken.waiting_since.reset();
  }
  if (channel == Channel::ordered) {
    if (begun)
      ordered_work_.finish(status, nothing);
    else
      broken_sequences_.emplace(number, Broken{status, view_.epoch});
    return;
  }
  if (begun) broken.works.clear();
  sequence(channel) = std::max(sequence(channel), number);  // who is behind may have had the next one broken before
  for (const std::string& name : group) {
    if (Work* work = pending_work(name))
      finish(work, status, nothing);
    else
      broken_names_.emplace(name, Broken{status, view_.epoch});
  }
}

// The group that a survivor was executing is executed by all of them, first thing in the new view: it was ready
// everywhere, so everybody has its tensors. Who still waits for the result of the operation before begins it then. What
// else the old log held binds nobody.
void Engine::restart_group(std::uint64_t committed, const std::vector<std::string>& group) {
  Execution& restarted = execution(Channel::negotiated);
  if (group.empty() || (restarted.active && restarted.operation.sequence > committed)) return;
  sequence(Channel::negotiated) = committed;
  std::vector<Work*> works;
  Signature signature;
  for (const std::string& name : group) {
    Work* work = pending_work(name);
    if (work == nullptr) {
      log_(LogLevel::error, "recovery", "tensor '{}' was ready everywhere but is not pending here", name);
      continue;
    }
    // A root has another rank now; that it is a member is what REDO says.
    if (const Status bound = bind(*work, view_); !bound.ok()) log_(LogLevel::error, "recovery", "{}", bound.message());
    works.push_back(work);
    const std::uint64_t count = signature.count + work->signature.count;
    signature = work->signature;
    signature.count = count;
  }
  if (restarted.active) {
    restarted.following = std::move(works);
    restarted.following_signature = signature;
    return;
  }
  restarted.works = std::move(works);
  start_group(signature);
}

Work* Engine::pending_work(std::string_view name) const {
  const auto work = std::ranges::find_if(negotiated_, [&](const Work* pending) { return pending->name == name; });
  return work == negotiated_.end() ? nullptr : *work;
}

// Begins the negotiation of the installed view with everything that is pending here.
void Engine::renegotiate() {
  const TimePoint now = clock_.now();
  negotiator_.reset();
  board_ = make_board_ ? make_board_(view_) : nullptr;
  negotiator_ = std::make_unique<negotiation::Negotiator>(
      negotiation::NegotiatorOptions{options_.stall_warning, options_.operation_timeout}, view_, self_, board_.get());
  by_entry_.clear();
  const Execution& group = execution(Channel::negotiated);
  std::vector<std::pair<Work*, Broken>> refused;
  for (Work* work : negotiated_) {
    const auto executes = [work](const std::vector<Work*>& works) {
      return std::ranges::find(works, work) != works.end();
    };
    if (group.active && (executes(group.works) || executes(group.following))) continue;
    if (auto refusal = refusal_of(*work)) {
      refused.emplace_back(work, std::move(*refusal));
      continue;
    }
    const auto entry = negotiator_->submit(work->name, work->signature, work->shape, now);
    if (!entry.ok()) {
      refused.emplace_back(work, Broken{entry.status(), view_.epoch});
      continue;
    }
    if (by_entry_.size() <= entry.value()) by_entry_.resize(entry.value() + 1);
    by_entry_[entry.value()] = work;
  }
  for (const auto& [work, end] : refused) finish(work, end.status, {end.epoch, 0});
  std::deque<std::pair<MemberId, wire::Bytes>> early;
  early.swap(early_messages_);
  for (auto& [from, message] : early) {
    const auto epoch = negotiation::epoch_of(message);
    if (epoch && *epoch > view_.epoch)
      early_messages_.emplace_back(from, std::move(message));
    else
      negotiator_->on_message(from, message, now);
  }
  if (negotiator_->has_actions()) apply_negotiation_actions();
}

void Engine::thaw() noexcept {
  frozen_ = false;
  halted_.store(0, std::memory_order_seq_cst);
  futex_wake_all(halted_);
  token_.release();
  hand_over();
  wake_background();
}

void Engine::fence(const Status& cause) {
  if (fenced_.load(std::memory_order_acquire)) return;
  freeze();
  fence_cause_ = cause;
  // seq_cst: who fills the inbox looks at this afterwards; so either the look at the inbox below sees a submission, or
  // enqueue() sees this.
  fenced_.store(true, std::memory_order_seq_cst);
  const Outcome nothing{view_.epoch, 0};
  if (execution(Channel::ordered).active) ordered_work_.finish(cause, nothing);
  for (const Channel channel : kChannels) execution(channel).active = false;
  execution(Channel::negotiated).works.clear();
  execution(Channel::negotiated).following.clear();
  while (!negotiated_.empty()) finish(negotiated_.back(), cause, nothing);
  if (inbox_filled_.load(std::memory_order_acquire)) accept_inbox();
  thaw();
}

void Engine::on_negotiation_message(MemberId from, std::span<const std::byte> message) {
  {
    const MutexLock lock(inbox_mutex_);
    messages_.emplace_back(from, wire::Bytes(message.begin(), message.end()));
    inbox_filled_.store(true, std::memory_order_seq_cst);  // seq_cst: see unattended_work() and sleep_unless()
  }
  wake_driver();
  wake_background();
}

}  // namespace hora::engine
