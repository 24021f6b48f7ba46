// poll() is on the path of every group: without announcements it makes no allocation, call to the system or message.
#include "negotiation/coordinator.h"

#include <fmt/format.h>

#include <algorithm>

#include "negotiation/diagnosis.h"

namespace hora::negotiation {
namespace {

// Groups in the log that this member has not executed: one that runs, and a full one behind it.
constexpr std::uint64_t kUnexecutedMax = 2;

}  // namespace

Coordinator::Coordinator(const CoordinatorOptions& options, Board* board)
    : options_(options), board_(board), fusion_(options.fusion_bytes) {
  options_.stall_warning = std::max<Duration>(options.stall_warning, std::chrono::milliseconds(1));
}

std::optional<TensorId> Coordinator::intern(std::string_view name) {
  if (const auto known = ids_.find(name); known != ids_.end()) return known->second;
  if (tensors_.size() >= options_.names_max) return std::nullopt;
  const auto id = static_cast<TensorId>(tensors_.size());
  tensors_.emplace_back().name = name;
  told_.resize(tensors_.size() * static_cast<std::size_t>(options_.size));
  ids_.emplace(name, id);
  return id;
}

void Coordinator::on_announce(Rank from, const Announce& announce, TimePoint now) {
  const std::optional<TensorId> id = intern(announce.name);
  if (!id) {
    // Members can have room each, and not together.
    std::string why = describe_full(announce.name, options_.names_max);
    broadcasts_.push_back(Reject{announce.name, announce.round, StatusCode::resource, std::move(why)});
    return;
  }
  if (announce.round != tensors_[*id].round || has_submitted(*id, from)) return;
  tensors_[*id].announcements.push_back({from, announce.request});
  submitted(*id, from, now);
}

void Coordinator::on_ready(Rank from, const Ready::Item& item, TimePoint now) {
  if (item.id >= tensors_.size() || !tensors_[item.id].defined || item.round != tensors_[item.id].round) return;
  const std::size_t index = std::size_t{item.id} * options_.size + from.value;
  if (told_[index] != item.round) submitted(item.id, from, now - Duration(item.waited_ns));
}

// The member's claim was checked: it is for the round that is being collected.
void Coordinator::submitted(TensorId id, Rank from, TimePoint since) {
  Tensor& tensor = tensors_[id];
  told_[std::size_t{id} * options_.size + from.value] = tensor.round;
  if (from == options_.self) pending_.push_back(id);
  if (tensor.waiting && tensor.since <= since) return;
  tensor.waiting = true;
  tensor.since = since;
  check_at(since + std::min(options_.stall_warning, options_.operation_timeout));
}

bool Coordinator::has_submitted(TensorId id, Rank rank) const {
  const Tensor& tensor = tensors_[id];
  if (told_[std::size_t{id} * options_.size + rank.value] == tensor.round) return true;
  if (board_ == nullptr || id >= board_->capacity() || !tensor.defined) return false;
  return board_->ready(rank, id) == static_cast<std::uint32_t>(tensor.round);
}

// Every member has submitted the same. Where they have all submitted, but not the same, rejects.
bool Coordinator::ready(TensorId id) {
  Tensor& tensor = tensors_[id];
  while (tensor.arrived < options_.size && has_submitted(id, Rank{tensor.arrived})) ++tensor.arrived;
  if (tensor.arrived == options_.size && !tensor.agreed) resolve(id);
  return tensor.agreed;
}

void Coordinator::resolve(TensorId id) {
  Tensor& tensor = tensors_[id];
  if (!tensor.announcements.empty()) {
    std::vector<const Request*> requests(static_cast<std::size_t>(options_.size), &tensor.request);
    for (const Announcement& announcement : tensor.announcements)
      requests[static_cast<std::size_t>(announcement.from.value)] = &announcement.request;
    if (std::ranges::any_of(requests, [&](const Request* request) { return *request != *requests[0]; }))
      return reject(id, StatusCode::mismatch, describe_mismatch(tensor.name, requests));
    tensor.request = Request(*requests[0]);
    tensor.announcements.clear();
  }
  tensor.agreed = true;
  if (tensor.defined) return;
  tensor.defined = true;
  broadcasts_.push_back(Define{id, tensor.name});
}

void Coordinator::poll(std::uint64_t executed) {
  while (appended_ < executed + kUnexecutedMax && !pending_.empty()) {
    collect();
    if (fusion_.group().empty() || (!fusion_.full() && appended_ > executed)) return;
    if (!append()) return;
  }
}

void Coordinator::collect() {
  fusion_.clear();
  bool rejected = false;
  for (const TensorId id : pending_) {
    if (fusion_.full()) break;
    if (ready(id)) {
      fusion_.offer(id, tensors_[id].request);
    } else {
      rejected = rejected || !tensors_[id].waiting;
    }
  }
  if (rejected) drop_decided();
}

bool Coordinator::append() {
  const std::vector<TensorId>& group = fusion_.group();
  if (board_ == nullptr) {
    broadcasts_.push_back(Append{appended_ + 1, group});
  } else if (!board_->append(appended_ + 1, group)) {
    return false;
  }
  ++appended_;
  for (const TensorId id : group) next_round(id);
  drop_decided();
  return true;
}

void Coordinator::reject(TensorId id, StatusCode code, std::string text) {
  broadcasts_.push_back(Reject{tensors_[id].name, tensors_[id].round, code, std::move(text)});
  next_round(id);
}

void Coordinator::next_round(TensorId id) {
  Tensor& tensor = tensors_[id];
  ++tensor.round;
  tensor.agreed = false;
  tensor.waiting = false;
  tensor.arrived = 0;
  tensor.reports = 0;
  tensor.announcements.clear();
}

void Coordinator::drop_decided() {
  std::erase_if(pending_, [this](TensorId id) { return !tensors_[id].waiting; });
}

void Coordinator::check_at(TimePoint time) {
  if (!check_ || time < *check_) check_ = time;
}

void Coordinator::on_deadline(TimePoint now) {
  if (!check_ || now < *check_) return;
  check_.reset();
  std::vector<std::string> reports;
  for (TensorId id = 0; id < tensors_.size(); ++id) {
    Tensor& tensor = tensors_[id];
    // What all have submitted waits for its turn, or was rejected just now, but does not wait for a member.
    if (!tensor.waiting || ready(id) || !tensor.waiting) continue;
    const TimePoint timeout = tensor.since + options_.operation_timeout;
    if (now >= timeout) {
      reject(id, StatusCode::timed_out, describe(id, now) + " (HORA_OPERATION_TIMEOUT_MS)");
      continue;
    }
    const auto report_time = [&] {
      return tensor.since + options_.stall_warning * (std::int64_t{1} << tensor.reports);
    };
    if (now >= report_time()) reports.push_back(describe(id, now));
    while (now >= report_time()) ++tensor.reports;
    check_at(std::min(report_time(), timeout));
  }
  drop_decided();
  if (!reports.empty()) broadcasts_.push_back(Stall{join_reports(reports)});
}

std::string Coordinator::describe(TensorId id, TimePoint now) const {
  const Tensor& tensor = tensors_[id];
  std::vector<Rank> submitted;
  std::vector<Rank> missing;
  for (Rank rank{0}; rank.value < options_.size; ++rank.value)
    (has_submitted(id, rank) ? submitted : missing).push_back(rank);
  const Request& request = tensor.announcements.empty() ? tensor.request : tensor.announcements.front().request;
  return describe_wait(tensor.name, request, submitted, missing, now - tensor.since);
}

}  // namespace hora::negotiation
