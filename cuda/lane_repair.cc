// From one communicator to the next: the old one is given up, members agree on what becomes of what was on it, and a
// new one is built in the background while the host carries everything.
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "cuda/lane.h"

namespace hora::cuda {

namespace {

// Positions in the record of a repair, all reduced by `min`; of complements that is the greatest.
enum RepairEntry : std::size_t { kShortest, kLongestNot, kHasNccl, kNextIndexNot, kFusionBytes };

Generation next_generation(Generation last, Epoch last_epoch, Epoch epoch) {
  return epoch == last_epoch ? last + 1 : first_generation(epoch);
}

}  // namespace

void Lane::retire_communicator(const char* why) {
  if (repair_state_ != RepairState::none) return;
  repair_state_ = RepairState::deciding;
  if (builder_) builder_->doom(generation_);
  for (const auto& batch : batches_)
    if (batch->state == BatchState::queued) batch->state = BatchState::frozen;
  if (stands_.exchange(false, std::memory_order_relaxed))  // relaxed: it says nothing of other memory
    log_(LogLevel::info, "nccl", "the communicator of epoch {} is given up: {}", generation_epoch_.value, why);
}

// Once it is final here how far the operations on the old communicator came, all members compare that.
void Lane::advance_repair() {
  if (repair_state_ != RepairState::deciding) return;
  for (const auto& batch : batches_) {
    if (batch->generation == 0 || batch->generation != generation_) continue;
    if (batch->state == BatchState::enqueued) return;
    if (batch->state == BatchState::frozen) break;
  }
  repair_state_ = RepairState::agreeing;
  const bool is_new = generation_ == 0;  // has nothing to say about earlier operations
  const auto done = static_cast<std::int64_t>(done_);
  repair_.record[kShortest] = is_new ? std::numeric_limits<std::int64_t>::max() : done;
  repair_.record[kLongestNot] = ~(is_new ? std::int64_t{0} : done);
  repair_.record[kHasNccl] = builder_ ? 1 : 0;
  repair_.record[kNextIndexNot] = ~static_cast<std::int64_t>(next_index_);
  repair_.record[kFusionBytes] = static_cast<std::int64_t>(own_fusion_bytes_);
  auto* bytes = reinterpret_cast<std::byte*>(repair_.record.data());
  plane_.run("hora:device:repair",
             {Collective::allreduce, DataType::int64, ReduceOp::min, Rank{0}, repair_.record.size()}, {},
             {bytes, bytes, sizeof repair_.record}, repair_);
}

void Lane::repaired(const Ending& ending) {
  const StatusCode code = ending.status.code();
  if (!ending.status.ok() && code != StatusCode::peer_failed) return;  // this rank is out of it, and stop() comes
  if (!ending.status.ok()) {
    log_(LogLevel::warn, "cuda", "the members could not agree on the devices: {}", ending.status.message());
    repair_state_ = RepairState::deciding;  // the same on every member
    return ring();
  }
  const auto shortest = static_cast<std::uint64_t>(repair_.record[kShortest]);
  const auto longest = static_cast<std::uint64_t>(~repair_.record[kLongestNot]);
  for (const auto& batch : batches_) {
    if (batch->generation == 0 || batch->generation != generation_) continue;
    if (batch->position <= shortest) {
      release(*batch);
      continue;
    }
    batch->carried.cargo = batch->position <= longest ? Cargo::result : Cargo::inputs;
    batch->carried.holds_result = batch->state == BatchState::held;
    if (batch->state != BatchState::enqueued) batch->state = BatchState::waiting;
  }
  if (generation_ == 0) next_index_ = static_cast<std::uint64_t>(~repair_.record[kNextIndexNot]);
  generation_ = next_generation(generation_, generation_epoch_, ending.epoch);
  generation_epoch_ = ending.epoch;
  generation_size_ = views_.at(ending.epoch).size();
  views_.erase(views_.begin(), views_.find(ending.epoch));
  positions_ = done_ = stable_ = 0;
  fusion_bytes_ = static_cast<std::uint64_t>(repair_.record[kFusionBytes]);
  repair_state_ = RepairState::none;
  if (repair_.record[kHasNccl] == 1) invite();
  ring();
}

void Lane::invite() {
  Invitation& invitation = *invitations_.emplace_back(std::make_unique<Invitation>(*this, generation_));
  const MemberId first = views_.at(generation_epoch_).members.front().id;
  if (first == self_ && runtime_->nccl->unique_id(&invitation.id) != kNcclSuccess)
    invitation.id = {};  // no id: nobody builds
  auto* bytes = invitation.id.bytes.data();
  plane_.run(fmt::format("hora:device:id:{}", generation_),
             {Collective::broadcast, DataType::uint8, ReduceOp::sum, Rank{0}, sizeof invitation.id}, first,
             {bytes, bytes, sizeof invitation.id}, invitation);
}

void Lane::invited(const Invitation& invitation, const Ending& ending) {
  const bool is_current = invitation.generation == generation_ && repair_state_ == RepairState::none;
  const bool has_id = std::ranges::any_of(invitation.id.bytes, [](std::byte byte) { return byte != std::byte{0}; });
  if (ending.status.ok() && is_current && has_id) {
    const View& view = views_.at(generation_epoch_);
    builder_->build(generation_, invitation.id, view.size(), view.rank_of(self_).value().value);
  }
  std::erase_if(invitations_, [&](const auto& other) { return other.get() == &invitation; });
}

// Not before what was on the last one has come to its end: operations on a new one may need more memory of the device,
// and the driver may give none while streams stall.
void Lane::adopt_communicator() {
  if (!builder_ || generation_ == 0 || repair_state_ != RepairState::none || stands_.load(std::memory_order_relaxed))
    return;
  const auto is_old = [this](const auto& batch) { return batch->was_for_nccl() && batch->generation != generation_; };
  const auto standing = builder_->standing();
  if (!standing || standing->generation != generation_ || std::ranges::any_of(batches_, is_old)) return;
  stands_.store(true, std::memory_order_relaxed);  // relaxed: it says nothing of other memory
  log_(LogLevel::info, "nccl", "a communicator of {} ranks stands (epoch {})", generation_size_,
       generation_epoch_.value);
}

void Lane::let_go_of_communicators() {
  if (!builder_ || builder_->is_clear()) return;
  const auto is_doomed = [this](const auto& batch) {
    return batch->was_for_nccl() && builder_->is_doomed(batch->generation);
  };
  if (std::ranges::none_of(batches_, is_doomed) && streams_have_passed()) builder_->let_go();
}

}  // namespace hora::cuda
