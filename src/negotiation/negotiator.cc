// submit() of a known request, poll(), next_execution() and finish_execution() make no allocation, call to the system
// or message where there is a board.
#include "negotiation/negotiator.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "negotiation/diagnosis.h"

namespace hora::negotiation {
namespace {

constexpr Rank kCoordinator{0};
// A coordinator is never further ahead of a member than the few groups that it may append before it executes them.
constexpr std::size_t kUnreadGroupsMax = 64;

}  // namespace

Negotiator::Negotiator(const NegotiatorOptions& options, const View& view, MemberId self, Board* board)
    : options_(options), view_(view), self_(view.rank_of(self).value_or(Rank{})), board_(board) {
  assert(self_.value >= 0);
  if (self_ == kCoordinator)
    coordinator_.emplace(CoordinatorOptions{.size = view.size(),
                                            .self = self_,
                                            .fusion_bytes = view.config.fusion_bytes,
                                            .stall_warning = options.stall_warning,
                                            .operation_timeout = options.operation_timeout,
                                            .names_max = options.names_max},
                         board);
}

std::optional<EntryId> Negotiator::intern(std::string_view name) {
  if (const auto known = entries_.find(name); known != entries_.end()) return known->second;
  if (tensors_.size() >= options_.names_max) return std::nullopt;
  const auto entry = static_cast<EntryId>(tensors_.size());
  tensors_.emplace_back().name = name;
  entries_.emplace(name, entry);
  return entry;
}

Result<EntryId> Negotiator::submit(std::string_view name, const Signature& signature,
                                   std::span<const std::int64_t> shape, TimePoint now) {
  if (!broken_.ok()) return broken_;
  const auto known = entries_.find(name);
  const bool repeated = known != entries_.end() && tensors_[known->second].request.equals(signature, shape);
  if (!repeated) HORA_TRY(validate(name, signature, shape, view_.size()));
  const std::optional<EntryId> entry = repeated ? known->second : intern(name);
  if (!entry) return Status(StatusCode::resource, describe_full(name, options_.names_max));
  Tensor& tensor = tensors_[*entry];
  if (tensor.progress != Progress::idle)
    return Status(StatusCode::invalid_argument,
                  fmt::format("tensor '{}' was submitted again before its last submission ended", name));
  ++tensor.round;
  if (tensor.round <= tensor.rejected_through) return tensor.rejection;
  tensor.progress = Progress::pending;
  tensor.announced = !repeated;
  tensor.since = now;
  ++in_flight_;
  if (repeated) {
    repeat(*entry, now);
  } else {
    tensor.proposed = Request(signature, shape);
    announce(*entry, now);
  }
  return *entry;
}

void Negotiator::announce(EntryId entry, TimePoint now) {
  Tensor& tensor = tensors_[entry];
  tensor.told = true;
  const Announce message{tensor.name, tensor.round, tensor.proposed};
  if (coordinator_) return coordinator_->on_announce(self_, message, now);
  send(kCoordinator, message);
}

void Negotiator::repeat(EntryId entry, TimePoint now) {
  Tensor& tensor = tensors_[entry];
  const Ready::Item item{*tensor.id, tensor.round, 0};
  tensor.told = board_ == nullptr || item.id >= board_->capacity();
  if (coordinator_) return coordinator_->on_ready(self_, item, now);
  if (tensor.told) return send(kCoordinator, Ready{{item}});
  board_->post_ready(item.id, static_cast<std::uint32_t>(tensor.round));
  if (!check_) check_ = now + std::min(options_.stall_warning, options_.operation_timeout);
}

void Negotiator::on_message(MemberId from, std::span<const std::byte> message, TimePoint now) {
  const std::optional<Rank> rank = view_.rank_of(from);
  if (!rank || *rank == self_) return;
  const std::optional<Message> decoded = decode(message, view_.epoch, view_.size());
  if (!decoded) return;
  if (!coordinator_) {
    if (*rank == kCoordinator) apply(*decoded);
  } else if (const auto* announce = std::get_if<Announce>(&*decoded)) {
    coordinator_->on_announce(*rank, *announce, now);
  } else if (const auto* ready = std::get_if<Ready>(&*decoded)) {
    for (const Ready::Item& item : ready->items) coordinator_->on_ready(*rank, item, now);
  }
}

void Negotiator::poll() {
  if (!coordinator_) return;
  coordinator_->poll(executed_);
  if (coordinator_->has_broadcasts()) broadcast();
}

void Negotiator::broadcast() {
  for (const Message& message : coordinator_->take_broadcasts()) {
    for (Rank to{0}; to.value < view_.size(); ++to.value)
      if (to != self_) send(to, message);
    apply(message);
  }
}

void Negotiator::send(Rank to, const Message& message) {
  actions_.sends.push_back({view_.members[static_cast<std::size_t>(to.value)].id, encode(view_.epoch, message)});
}

// What the coordinator says. What only members say to it has no effect here.
void Negotiator::apply(const Message& message) {
  if (const auto* define = std::get_if<Define>(&message)) return apply(*define);
  if (const auto* append = std::get_if<Append>(&message)) return apply(*append);
  if (const auto* reject = std::get_if<Reject>(&message)) return apply(*reject);
  if (const auto* stall = std::get_if<Stall>(&message)) actions_.stalls.push_back(stall->text);
}

void Negotiator::apply(const Define& define) {
  const std::optional<EntryId> entry = intern(define.name);
  if (!entry || tensors_[*entry].id) return;
  if (define.id >= defined_.size()) defined_.resize(define.id + std::size_t{1});
  if (defined_[define.id]) return;
  defined_[define.id] = *entry;
  tensors_[*entry].id = define.id;
}

void Negotiator::apply(const Append& append) {
  if (board_ != nullptr || append.position != appended_ + 1 || log_.size() >= kUnreadGroupsMax) return;
  appended_ = append.position;
  log_.push_back(append.group);
}

void Negotiator::apply(const Reject& reject) {
  const std::optional<EntryId> entry = intern(reject.name);
  if (!entry || reject.round <= tensors_[*entry].rejected_through) return;
  Tensor& tensor = tensors_[*entry];
  tensor.rejected_through = reject.round;
  tensor.rejection = Status(reject.code, reject.text);
  if (tensor.progress != Progress::pending || tensor.round > reject.round) return;
  end(tensor);
  actions_.failures.push_back({*entry, tensor.rejection});
}

void Negotiator::end(Tensor& tensor) {
  tensor.progress = Progress::idle;
  --in_flight_;
}

bool Negotiator::read_log() {
  if (group_read_) return true;
  if (board_ != nullptr) return group_read_ = board_->read(executed_ + 1, group_);
  if (log_.empty()) return false;
  group_ = std::move(log_.front());
  log_.pop_front();
  return group_read_ = true;
}

const Execution* Negotiator::next_execution() {
  if (executing_ || !broken_.ok() || !read_log()) return nullptr;
  // The log may overtake the message that says what an id stands for.
  for (const TensorId id : group_)
    if (id >= defined_.size() || !defined_[id]) return nullptr;
  execution_.entries.clear();
  std::uint64_t count = 0;
  for (const TensorId id : group_) {
    Tensor& tensor = tensors_[*defined_[id]];
    if (tensor.progress != Progress::pending) return contradict(id), nullptr;
    tensor.progress = Progress::executing;
    const Signature& signature = (tensor.announced ? tensor.proposed : tensor.request).signature;
    if (execution_.entries.empty()) execution_.signature = signature;
    count += signature.count;
    execution_.entries.push_back(*defined_[id]);
  }
  execution_.position = executed_ + 1;
  execution_.signature.count = count;
  executing_ = true;
  return &execution_;
}

void Negotiator::finish_execution() {
  assert(executing_);
  for (const EntryId entry : execution_.entries) {
    Tensor& tensor = tensors_[entry];
    if (tensor.announced) std::swap(tensor.request, tensor.proposed);
    tensor.rejected_through = 0;  // all have submitted a later round, so all have heard of it
    end(tensor);
  }
  executed_ = execution_.position;
  executing_ = false;
  group_read_ = false;
}

// The log asks for what this member has not submitted. It cannot be followed any further, and nothing ends without it.
void Negotiator::contradict(TensorId id) {
  broken_ =
      Status(StatusCode::internal, fmt::format("position {} of the response log asks for tensor '{}', which rank {} "
                                               "has not submitted",
                                               executed_ + 1, tensors_[*defined_[id]].name, self_.value));
  for (EntryId entry = 0; entry < tensors_.size(); ++entry) {
    if (tensors_[entry].progress == Progress::idle) continue;
    end(tensors_[entry]);
    actions_.failures.push_back({entry, broken_});
  }
}

std::vector<Reject> Negotiator::rejections() const {
  std::vector<Reject> known;
  for (const Tensor& tensor : tensors_)
    if (tensor.rejected_through > 0)
      known.push_back(
          {tensor.name, tensor.rejected_through, tensor.rejection.code(), std::string(tensor.rejection.message())});
  return known;
}

std::vector<Rejection> Negotiator::conclude(std::span<const Reject> reported) {
  for (const Reject& reject : reported) apply(reject);
  std::vector<Rejection> left;
  for (const Tensor& tensor : tensors_)
    if (tensor.rejected_through > tensor.round)
      left.push_back({tensor.name, tensor.rejected_through - tensor.round, tensor.rejection});
  return left;
}

std::optional<TimePoint> Negotiator::next_deadline() const {
  const std::optional<TimePoint> other = coordinator_ ? coordinator_->next_deadline() : std::nullopt;
  if (!check_ || !other) return check_ ? check_ : other;
  return std::min(*check_, *other);
}

void Negotiator::on_deadline(TimePoint now) {
  if (coordinator_) {
    coordinator_->on_deadline(now);
    broadcast();
  }
  if (check_ && now >= *check_) tell_overdue(now);
}

void Negotiator::tell_overdue(TimePoint now) {
  check_.reset();
  Ready ready;
  for (Tensor& tensor : tensors_) {
    if (tensor.progress != Progress::pending || tensor.told) continue;
    const TimePoint due = tensor.since + std::min(options_.stall_warning, options_.operation_timeout);
    if (now < due) {
      check_ = std::min(check_.value_or(due), due);
      continue;
    }
    tensor.told = true;
    ready.items.push_back({*tensor.id, tensor.round, static_cast<std::uint64_t>((now - tensor.since).count())});
    if (ready.items.size() == kReadyItemsMax) send(kCoordinator, std::exchange(ready, {}));
  }
  if (!ready.items.empty()) send(kCoordinator, ready);
}

}  // namespace hora::negotiation
