// How a SchedulePlayer plays its plan.
#include <algorithm>
#include <cassert>
#include <cstring>

#include "collectives/reduce_kernels.h"
#include "collectives/schedule_player.h"

namespace hora::collectives {
namespace {

// The steps before belong to the arrival (see schedule_player.cc).
constexpr std::uint32_t kFirstPlanStep = 1;

void copy_bytes(std::byte* target, const std::byte* source, std::size_t bytes) {
  if (bytes != 0 && target != source) std::memcpy(target, source, bytes);
}

// Calls visit(extent, offset in the extent, offset in all of them, bytes) for the pieces of bytes [begin, end) of the
// extents, one after another.
template <typename Visitor>
void for_pieces(std::span<const Extent> extents, std::size_t begin, std::size_t end, const Visitor& visit) {
  std::size_t at = 0;
  for (const Extent& extent : extents) {
    const std::size_t first = std::max(begin, at);
    const std::size_t last = std::min(end, at + extent.bytes);
    if (first < last) visit(extent, first - at, first, last - first);
    at += extent.bytes;
    if (at >= end) break;
  }
}

}  // namespace

void SchedulePlayer::prepare_moves() {
  const bool has_inputs = reads_source();
  const auto is_input = [](const Extent& extent) { return extent.source == extent.target; };
  fills_targets_early_ = !has_inputs || std::ranges::none_of(operation_.extents, is_input);
  input_ = nullptr;
  if (has_inputs && operation_.extents.size() == 1) input_ = operation_.extents[0].source;
  if (has_inputs && operation_.extents.size() > 1) {
    gathered_.resize(operation_.signature.count * element_bytes());
    input_ = gathered_.data();
  }
  plan_ = &find_plan();
  scratch_.resize(plan_->schedule.scratch_count * element_bytes());
  cursors_.resize(std::max<std::size_t>(cursors_.size(), plan_->lanes));
  for (std::size_t lane = 0; lane < plan_->lanes; ++lane) {
    cursors_[lane].segment = lane;
    cursors_[lane].stage = 0;
    cursors_[lane].begun = false;
    cursors_[lane].target_filled = false;
  }
  segments_left_ = plan_->segments.size();
  sent_.assign(static_cast<std::size_t>(size_), 0);
}

const Plan& SchedulePlayer::find_plan() {
  const Signature& signature = operation_.signature;
  for (std::size_t i = 0; i < std::min(plans_made_, plans_.size()); ++i) {
    const KnownPlan& known = plans_[i];
    if (known.kind == signature.kind && known.dtype == signature.dtype && known.count == signature.count &&
        known.root == signature.root)
      return known.plan;
  }
  const Algorithm& algorithm =
      select(signature.kind, size_, hosts_, signature.dtype, signature.count * element_bytes());
  const std::uint64_t messages = algorithm.sliced ? static_cast<std::uint64_t>(size_) : 1;
  KnownPlan& made = plans_[plans_made_++ % plans_.size()];
  made = {signature.kind, signature.dtype, signature.count, signature.root,
          make_plan(algorithm, {rank_, size_, signature.count, signature.root, hosts_, is_half(signature.dtype)},
                    std::max<std::uint64_t>(1, messages * message_bytes_ / element_bytes()))};
  return made.plan;
}

bool SchedulePlayer::reads_source() const {
  return operation_.signature.kind != Collective::broadcast || operation_.signature.root == rank_;
}

// Not those of a barrier, which has none, and of a root, whose source holds the result.
bool SchedulePlayer::result_fills_targets() const {
  const Collective kind = operation_.signature.kind;
  return kind != Collective::barrier && (kind != Collective::broadcast || !reads_source());
}

// Each as long as what a rank contributes.
std::size_t SchedulePlayer::result_parts() const {
  return operation_.signature.kind == Collective::allgather ? signatures_.size() : 1;
}

// At most one segment of each lane: whoever wants the engine does not wait long for it.
void SchedulePlayer::play_moves() {
  for (std::size_t lane = 0; lane < plan_->lanes; ++lane) {
    Cursor& cursor = cursors_[lane];
    if (cursor.segment >= plan_->segments.size()) continue;
    const Segment& segment = plan_->segments[cursor.segment];
    while (cursor.stage < segment.stages && play_stage(cursor, plan_->stages[segment.first_stage + cursor.stage])) {
    }
    if (cursor.stage < segment.stages || !has_met_all()) continue;
    if (fills_targets_early_ && !cursor.target_filled && result_fills_targets())
      copy_out(segment.offset, segment.count);
    cursor.target_filled = false;
    cursor.segment += plan_->lanes;
    cursor.stage = 0;
    --segments_left_;
  }
}

// True when the stage is over.
bool SchedulePlayer::play_stage(Cursor& cursor, const Stage& stage) {
  const std::span<const Move> moves = plan_->moves_of(stage);
  if (!cursor.begun) {
    const Segment& segment = plan_->segments[cursor.segment];
    if (cursor.stage == 0 && input_ == gathered_.data() && input_ != nullptr) copy_in(segment.offset, segment.count);
    cursor.begun = true;
    cursor.made.assign(stage.transfers, 0);
    cursor.transfers_left = stage.transfers;
  }
  for (std::size_t i = 0; i < stage.transfers && cursor.transfers_left > 0; ++i) {
    if (cursor.made[i] != 0) continue;
    const Move& move = moves[i];
    // What only sends the input need not wait for the arrival of all; a mismatch leaves it to be dropped.
    const bool early = move.action == Action::send && plan_->schedule.sources_of(move)[0].buffer == Buffer::input;
    if (!has_met_all() && !early) continue;
    if (!(move.action == Action::send ? send(move) : receive(move))) continue;
    cursor.made[i] = 1;
    --cursor.transfers_left;
  }
  if (cursor.transfers_left > 0 || !has_met_all()) return false;
  for (const Move& move : moves.subspan(stage.transfers)) {
    if (move.action == Action::reduce) {
      const Segment& segment = plan_->segments[cursor.segment];
      cursor.target_filled = fills_target(segment, move);
      reduce(move, cursor.target_filled ? operation_.extents[0].target + segment.offset * element_bytes() : nullptr);
    } else {
      const auto source = bytes_of(plan_->schedule.sources_of(move)[0]);
      copy_bytes(writable(move.target).data(), source.data(), source.size());
    }
  }
  ++cursor.stage;
  cursor.begun = false;
  return true;
}

// The messages of a link leave in the order of their numbers: see Plan.
bool SchedulePlayer::send(const Move& move) {
  const auto peer = static_cast<std::size_t>(move.peer.value);
  if (greeted_[peer] == 0 || sent_[peer] != move.message) return false;
  const Tag at = tag(operation_.sequence, kFirstPlanStep + move.message);
  if (!links_.try_send(move.peer, at, bytes_of(plan_->schedule.sources_of(move)[0]))) return false;
  ++sent_[peer];
  return true;
}

bool SchedulePlayer::receive(const Move& move) {
  const Tag at = tag(operation_.sequence, kFirstPlanStep + move.message);
  const auto received = links_.try_receive(move.peer, at, writable(move.target));
  return received.ok() && received.value();
}

// The move makes all of the segment's result, which may go into the one target in the same pass.
bool SchedulePlayer::fills_target(const Segment& segment, const Move& move) const {
  return fills_targets_early_ && operation_.extents.size() == 1 && move.last && move.target.buffer == Buffer::result &&
         move.target.offset == segment.offset && move.target.count == segment.count;
}

void SchedulePlayer::reduce(const Move& move, std::byte* copy) {
  const Signature& signature = operation_.signature;
  const bool divide = signature.op == ReduceOp::average && move.divides;
  const ReduceOp op = signature.op == ReduceOp::average && !divide ? ReduceOp::sum : signature.op;
  operands_.clear();
  for (const Region& region : plan_->schedule.sources_of(move)) operands_.push_back(bytes_of(region).data());
  find_reduce_kernel(signature.dtype, op)(writable(move.target).data(), copy, operands_.data(),
                                          static_cast<int>(operands_.size()), move.target.count, divide ? size_ : 1);
}

void SchedulePlayer::copy_in(std::uint64_t offset, std::uint64_t count) {
  const std::size_t begin = offset * element_bytes();
  for_pieces(operation_.extents, begin, begin + count * element_bytes(),
             [&](const Extent& extent, std::size_t within, std::size_t at, std::size_t bytes) {
               copy_bytes(gathered_.data() + at, extent.source + within, bytes);
             });
}

void SchedulePlayer::copy_out(std::uint64_t offset, std::uint64_t count) {
  const std::size_t parts = result_parts();
  const std::size_t part_bytes = operation_.signature.count * element_bytes();
  const std::size_t begin = offset * element_bytes();
  for_pieces(operation_.extents, begin, begin + count * element_bytes(),
             [&](const Extent& extent, std::size_t within, std::size_t at, std::size_t bytes) {
               for (std::size_t part = 0; part < parts; ++part)
                 copy_bytes(extent.target + part * extent.bytes + within, result_.data() + part * part_bytes + at,
                            bytes);
             });
}

std::span<const std::byte> SchedulePlayer::bytes_of(const Region& region) const {
  const std::byte* base = region.buffer == Buffer::input    ? input_
                          : region.buffer == Buffer::result ? result_.data()
                                                            : scratch_.data();
  return {base + region.offset * element_bytes(), region.count * element_bytes()};
}

std::span<std::byte> SchedulePlayer::writable(const Region& region) {
  assert(region.buffer != Buffer::input);
  ByteBuffer& base = region.buffer == Buffer::result ? result_ : scratch_;
  return base.span().subspan(region.offset * element_bytes(), region.count * element_bytes());
}

}  // namespace hora::collectives
