#include "collectives/schedule_player.h"

#include <algorithm>
#include <cassert>
#include <cstring>

#include "collectives/algorithms.h"
#include "collectives/reduce_kernels.h"
#include "collectives/schedule_messages.h"

namespace hora::collectives {
namespace {

// Steps of the tag: 0 is the arrival, the messages of the schedule follow. A forwarded outcome has two messages; they
// cannot meet an arrival, because one operation is either forwarded or played in a view.
constexpr std::uint32_t kArrivalStep = 0;
constexpr std::uint32_t kFirstScheduleStep = 1;
constexpr std::uint32_t kForwardHeaderStep = 0;
constexpr std::uint32_t kForwardBodyStep = 1;

void copy_bytes(std::byte* target, const std::byte* source, std::size_t bytes) {
  if (bytes != 0 && target != source) std::memcpy(target, source, bytes);
}

}  // namespace

void SchedulePlayer::enter(Epoch epoch, Rank rank, int size) {
  epoch_ = epoch;
  rank_ = rank;
  size_ = size;
}

void SchedulePlayer::start(const Operation& operation) {
  assert(!active_);
  active_ = true;
  operation_ = operation;
  prepare();
}

void SchedulePlayer::redo(Rank root) {
  assert(active_);
  operation_.signature.root = root;
  prepare();
}

void SchedulePlayer::await_forward(Rank root) {
  assert(active_);
  operation_.signature.root = root;
  forwarded_ = true;
  forwarder_ = Rank{};
  header_read_ = false;
}

// Nothing of the retained outcome is touched before all ranks have arrived.
void SchedulePlayer::prepare() {
  const Signature& signature = operation_.signature;
  const auto ranks = static_cast<std::size_t>(size_);
  greeting_ = encode(signature);
  greeted_.assign(ranks, false);
  arrived_.assign(ranks, false);
  signatures_.assign(ranks, Signature{});
  greeted_[static_cast<std::size_t>(rank_.value)] = arrived_[static_cast<std::size_t>(rank_.value)] = true;
  signatures_[static_cast<std::size_t>(rank_.value)] = signature;
  greeted_count_ = arrived_count_ = 1;
  forwarded_ = false;
  schedule_ = select(signature.kind, size_, signature.count * element_bytes())
                  .generate({rank_, size_, signature.count, signature.root});
  next_move_ = 0;
  scratch_.resize(schedule_.scratch_count * element_bytes());
  copy_in();
  if (size_ == 1) resize_result();
}

Step SchedulePlayer::play() {
  if (forwarded_) return receive_forward();
  if (!has_met_all()) {
    meet();
    if (has_met_all()) {
      if (!signatures_agree()) return finish(Step::mismatch);
      resize_result();
    }
  }
  for (; next_move_ < schedule_.moves.size(); ++next_move_) {
    const Move& move = schedule_.moves[next_move_];
    // What only sends the input need not wait for the arrival of all; a mismatch leaves it to be dropped.
    const bool early = move.action == Action::send && schedule_.sources_of(move)[0].buffer == Buffer::input;
    if (!has_met_all() && !early) return Step::pending;
    if (!make(move)) return Step::pending;
  }
  return has_met_all() ? finish(Step::done) : Step::pending;
}

void SchedulePlayer::meet() {
  for (int peer = 0; peer < size_; ++peer) {
    const auto i = static_cast<std::size_t>(peer);
    const Tag at = tag(operation_.sequence, kArrivalStep);
    if (!greeted_[i] && links_.try_send(Rank{peer}, at, greeting_)) {
      greeted_[i] = true;
      ++greeted_count_;
    }
    if (arrived_[i]) continue;
    std::array<std::byte, kSignatureBytes> message;
    const auto received = links_.try_receive(Rank{peer}, at, message);
    if (!received.ok() || !received.value()) continue;
    arrived_[i] = true;
    signatures_[i] = decode_signature(message);
    ++arrived_count_;
  }
}

bool SchedulePlayer::signatures_agree() const {
  return std::ranges::all_of(signatures_, [&](const Signature& other) { return other == signatures_[0]; });
}

bool SchedulePlayer::make(const Move& move) {
  switch (move.action) {
    case Action::send: return send(move);
    case Action::receive: return receive(move);
    case Action::reduce: reduce(move); return true;
    case Action::copy: {
      const auto source = bytes_of(schedule_.sources_of(move)[0]);
      copy_bytes(writable(move.target).data(), source.data(), source.size());
      return true;
    }
  }
  return false;
}

bool SchedulePlayer::send(const Move& move) {
  if (!greeted_[static_cast<std::size_t>(move.peer.value)]) return false;
  const Tag at = tag(operation_.sequence, kFirstScheduleStep + move.message);
  return links_.try_send(move.peer, at, bytes_of(schedule_.sources_of(move)[0]));
}

bool SchedulePlayer::receive(const Move& move) {
  const Tag at = tag(operation_.sequence, kFirstScheduleStep + move.message);
  const auto received = links_.try_receive(move.peer, at, writable(move.target));
  return received.ok() && received.value();
}

void SchedulePlayer::reduce(const Move& move) {
  const Signature& signature = operation_.signature;
  const bool divide = signature.op == ReduceOp::average && move.last;
  const ReduceOp op = signature.op == ReduceOp::average && !move.last ? ReduceOp::sum : signature.op;
  std::vector<const std::byte*> sources;
  for (const Region& region : schedule_.sources_of(move)) sources.push_back(bytes_of(region).data());
  find_reduce_kernel(signature.dtype, op)(writable(move.target).data(), nullptr, sources.data(),
                                          static_cast<int>(sources.size()), move.target.count, divide ? size_ : 1);
}

bool SchedulePlayer::forward(Rank to, int& messages_sent) {
  if (messages_sent == 0) {
    if (!links_.try_send(to, tag(retained_, kForwardHeaderStep), encode(OutcomeHeader{outcome_, contributors_})))
      return false;
    messages_sent = 1;
  }
  if (messages_sent == 1) {
    const wire::Bytes said = encode(std::span<const Signature>(retained_signatures_));
    if (!links_.try_send(to, tag(retained_, kForwardBodyStep), outcome_ == Step::mismatch ? said : result_))
      return false;
    messages_sent = 2;
  }
  return true;
}

bool SchedulePlayer::receive_header() {
  std::array<std::byte, kOutcomeHeaderBytes> message;
  const auto received = links_.try_receive(forwarder_, tag(operation_.sequence, kForwardHeaderStep), message);
  if (!received.ok() || !received.value()) return false;
  const auto header = decode_outcome_header(message);
  if (!header.ok()) return false;
  forwarded_outcome_ = header.value().outcome;
  forwarded_contributors_ = header.value().contributors;
  return true;
}

Step SchedulePlayer::receive_forward() {
  if (forwarder_.value < 0) return Step::pending;
  if (!header_read_ && !(header_read_ = receive_header())) return Step::pending;
  const Tag at = tag(operation_.sequence, kForwardBodyStep);
  const auto ranks = static_cast<std::size_t>(forwarded_contributors_);
  if (forwarded_outcome_ == Step::mismatch) {
    std::vector<std::byte> said(ranks * kSignatureBytes);
    const auto received = links_.try_receive(forwarder_, at, said);
    if (!received.ok() || !received.value()) return Step::pending;
    signatures_.clear();
    for (std::size_t i = 0; i < ranks; ++i)
      signatures_.push_back(decode_signature(std::span(said).subspan(i * kSignatureBytes).first<kSignatureBytes>()));
  } else {
    // The outcome retained so far is of the operation before, which the forwarder is past, and so is everybody.
    const Signature& signature = operation_.signature;
    const auto parts = signature.kind == Collective::barrier     ? 0
                       : signature.kind == Collective::allgather ? ranks
                                                                 : std::size_t{1};
    result_.resize(parts * signature.count * element_bytes());
    const auto received = links_.try_receive(forwarder_, at, result_);
    if (!received.ok() || !received.value()) return Step::pending;
  }
  return finish(forwarded_outcome_);
}

Step SchedulePlayer::finish(Step outcome) {
  outcome_ = outcome;
  contributors_ = forwarded_ ? forwarded_contributors_ : size_;
  retained_ = operation_.sequence;
  retained_signatures_ = outcome == Step::mismatch ? signatures_ : std::vector<Signature>();
  if (outcome == Step::mismatch) result_.clear();
  if (outcome == Step::done) copy_out();
  active_ = forwarded_ = false;
  return outcome;
}

void SchedulePlayer::copy_in() {
  const Signature& signature = operation_.signature;
  input_ = nullptr;
  const bool reads = signature.kind == Collective::broadcast ? signature.root == rank_ : true;
  if (!reads || operation_.extents.empty()) return;
  if (operation_.extents.size() == 1) {
    input_ = operation_.extents[0].source;
    return;
  }
  gathered_.resize(signature.count * element_bytes());
  std::size_t offset = 0;
  for (const Extent& extent : operation_.extents) {
    assert(offset + extent.bytes <= gathered_.size());
    copy_bytes(gathered_.data() + offset, extent.source, extent.bytes);
    offset += extent.bytes;
  }
  input_ = gathered_.data();
}

void SchedulePlayer::copy_out() const {
  const Signature& signature = operation_.signature;
  if (signature.kind == Collective::barrier) return;
  if (signature.kind == Collective::broadcast && signature.root == rank_) return;
  const std::size_t parts = signature.kind == Collective::allgather ? static_cast<std::size_t>(contributors_) : 1;
  const std::size_t part_bytes = signature.count * element_bytes();
  std::size_t offset = 0;
  for (const Extent& extent : operation_.extents) {
    for (std::size_t part = 0; part < parts; ++part)
      copy_bytes(extent.target + part * extent.bytes, result_.data() + part * part_bytes + offset, extent.bytes);
    offset += extent.bytes;
  }
}

void SchedulePlayer::resize_result() {
  result_.resize(schedule_.result_count * element_bytes());
}

std::vector<Rank> SchedulePlayer::missing() const {
  std::vector<Rank> ranks;
  if (!active_ || forwarded_) return ranks;
  for (int peer = 0; peer < size_; ++peer)
    if (!arrived_[static_cast<std::size_t>(peer)]) ranks.push_back(Rank{peer});
  return ranks;
}

std::span<const std::byte> SchedulePlayer::bytes_of(const Region& region) const {
  const std::byte* base = region.buffer == Buffer::input    ? input_
                          : region.buffer == Buffer::result ? result_.data()
                                                            : scratch_.data();
  return {base + region.offset * element_bytes(), region.count * element_bytes()};
}

std::span<std::byte> SchedulePlayer::writable(const Region& region) {
  assert(region.buffer != Buffer::input);
  std::vector<std::byte>& base = region.buffer == Buffer::result ? result_ : scratch_;
  return std::span(base).subspan(region.offset * element_bytes(), region.count * element_bytes());
}

}  // namespace hora::collectives
