// The fast path: copy-in, NCCL and copy-out on the library's stream, and what the copy-outs have decided.
#include <algorithm>
#include <thread>
#include <utility>

#include "cuda/lane.h"

namespace hora::cuda {

namespace {

NcclType nccl_type(DataType type) {
  switch (type) {
    case DataType::float16:
    case DataType::bfloat16:
    case DataType::float32: return NcclType::float32;
    case DataType::float64: return NcclType::float64;
    case DataType::int16:
    case DataType::int32: return NcclType::int32;
    case DataType::int64: return NcclType::int64;
    case DataType::int8: return NcclType::int8;
    case DataType::uint8: return NcclType::uint8;
  }
  return NcclType::uint8;
}

NcclOp nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::average: return NcclOp::sum;  // copy-out divides
    case ReduceOp::product: return NcclOp::product;
    case ReduceOp::min: return NcclOp::min;
    case ReduceOp::max: return NcclOp::max;
  }
  return NcclOp::sum;
}

// On streams at one time. A stream takes some thousand commands, the caller's among them, and then blocks who has more.
constexpr std::size_t kUndecidedMost = 32;
constexpr std::uint64_t kCommandsMost = 256;
constexpr std::size_t kRetainedMost = 64;  // stages, those of undecided operations among them

constexpr std::uint64_t kCommandsOfBatch = 8;  // beside one for each request

std::size_t stage_bytes(const Batch& batch) {
  return std::max<std::size_t>(batch.signature.count * batch.staging.element_bytes, 1);
}

}  // namespace

Pieces Lane::pieces_of(const Batch& batch, bool targets) {
  Pieces pieces;
  pieces.count = static_cast<std::uint32_t>(batch.requests.size());
  std::uint64_t begin = 0;
  for (std::uint32_t i = 0; i < pieces.count; ++i) {
    const Request& request = *batch.requests[i];
    pieces.memory[i] = reinterpret_cast<std::uintptr_t>(targets ? request.memory.target : request.memory.source);
    pieces.begin[i] = begin;
    begin += request.request.count;
  }
  pieces.begin[pieces.count] = begin;
  return pieces;
}

bool Lane::usable() const noexcept {
  // relaxed: only this thread writes it
  return stands_.load(std::memory_order_relaxed) && !builder_->is_doomed(generation_);
}

void Lane::enqueue_queued() {
  for (const auto& batch : batches_) {
    if (batch->state != BatchState::queued) continue;
    if (!usable() || !has_room(*batch) || !enqueue(*batch)) return;
  }
}

// What is before it on the streams gets there in any case, since all members enqueue in the same order.
bool Lane::has_room(const Batch& batch) {
  std::size_t undecided = 0, retained = 0;
  std::uint64_t commands = batch.requests.size() + kCommandsOfBatch;
  for (const auto& other : batches_) {
    if (!other->on_streams) continue;
    ++retained;
    if (other->state != BatchState::enqueued) continue;
    ++undecided;
    commands += other->on_streams->commands;
  }
  if (undecided > 0 && (undecided >= kUndecidedMost || commands > kCommandsMost)) return false;
  if (retained < kRetainedMost && gpu_->has_word()) return true;
  (void)known_everywhere(done_);
  return false;  // once more when that is told, or something is decided
}

// False: there is no room yet. A member that cannot enqueue leaves its communicator: the others learn of it, and the
// host carries the operation.
bool Lane::enqueue(Batch& batch) {
  const auto stage = gpu_->take_device_block(stage_bytes(batch));
  const auto retains = [](const auto& other) { return other->on_streams.has_value(); };
  if (!stage.ok() && std::ranges::any_of(batches_, retains)) {
    (void)known_everywhere(done_);
    return false;  // as above
  }
  OnStreams borrowed;
  bool launched = false;
  Status status = stage.status();
  if (stage.ok()) {
    borrowed.stage = stage.value();
    borrowed.word = gpu_->take_word();
    borrowed.since = clock_.now();
    borrowed.commands = batch.requests.size() + kCommandsOfBatch;
    status = put_on_streams(batch, borrowed, launched);
  } else if (batch.requests.size() > 1) {
    own_fusion_bytes_ = batch.signature.count * size_of(batch.signature.dtype) / 2;
  }
  if (!status.ok() && !launched) {
    log_(LogLevel::warn, "cuda", "device operation #{}: {}; the host carries it", batch.index, status.message());
    batch.state = BatchState::frozen;
    if (stage.ok()) {  // whoever has these next has them on the same stream
      gpu_->give_back(borrowed.stage);
      gpu_->give_back(borrowed.word, borrowed.word.held, borrowed.word.pending);
      gpu_->give_back_event(borrowed.copied);
    }
    lose();
    return true;
  }
  batch.on_streams = borrowed;
  if (!status.ok()) {  // it may be done here or not, and nobody will ever know
    batch.state = BatchState::frozen;
    break_down(status);
    return true;
  }
  batch.state = BatchState::enqueued;
  const MutexLock lock(mutex_);
  for (Request* request : batch.requests) {
    request->stage_ = Request::Stage::enqueued;
    request->copied_ = borrowed.copied;
    request->awaited_ = borrowed.word.awaited();
    request->awaited_value_ = borrowed.word.ended();
  }
  finished_.notify_all();
  return true;
}

// `launched`: the copy-out is on the stream, and may decide.
Status Lane::put_on_streams(Batch& batch, OnStreams& borrowed, bool& launched) {
  const Driver& driver = runtime_->driver;
  auto copied = gpu_->take_event();
  if (!copied.ok()) return copied.status();
  borrowed.copied = copied.value();
  for (const Request* request : batch.requests) HORA_DRIVER_TRY(driver, stream_wait_event, stream_, request->ready_, 0);
  const DeviceAddress stage = borrowed.stage.address;
  if (batch.signature.kind == Collective::allreduce || is_root(batch))
    HORA_TRY(gpu_->copy_in(batch.staging.in, pieces_of(batch, false), stage, stream_));
  const Builder::Use use(*builder_, generation_);
  if (!use) return {StatusCode::peer_failed, "the communicator was given up"};
  HORA_TRY(reduce(batch, borrowed, (*use).handle));
  const Word& word = borrowed.word;
  const Decision decision{reinterpret_cast<std::uint32_t*>(word.address), (*use).abort_flag, word.held, word.done(),
                          word.frozen()};
  const Pieces targets = is_root(batch) ? Pieces{} : pieces_of(batch, true);
  HORA_TRY(gpu_->copy_out(batch.staging.out, targets, stage, divisor_of(batch), decision, stream_));
  launched = true;
  HORA_DRIVER_TRY(driver, copy_to_host, word.mirror, word.address, sizeof(std::uint32_t), stream_);
  HORA_DRIVER_TRY(driver, event_record, borrowed.copied, stream_);
  HORA_DRIVER_TRY(driver, stream_wait_event, notices_, borrowed.copied, 0);
  HORA_DRIVER_TRY(driver, stream_call_host, notices_, &Lane::ring_from_driver, this);
  return {};
}

// NCCL, in place on the stage. Returns when it has put its work on the stream, which takes long only for the first
// operations of a communicator: it then connects.
Status Lane::reduce(const Batch& batch, const OnStreams& borrowed, CommunicatorHandle communicator) {
  const Nccl& nccl = *runtime_->nccl;
  void* stage = reinterpret_cast<void*>(borrowed.stage.address);
  const std::size_t bytes = batch.signature.count * batch.staging.element_bytes;
  NcclCode code = kNcclSuccess;
  if (batch.signature.kind == Collective::allreduce) {
    code = nccl.allreduce(stage, stage, batch.signature.count, nccl_type(batch.signature.dtype),
                          nccl_op(batch.signature.op), communicator, stream_);
  } else {
    const auto root = views_.at(generation_epoch_).rank_of(batch.root);
    if (!root) return {StatusCode::peer_failed, "the root is no member of the communicator"};
    code = nccl.broadcast(stage, stage, bytes, NcclType::uint8, root->value, communicator, stream_);
  }
  while (code == kNcclInProgress && !builder_->is_doomed(generation_) &&
         clock_.now() - borrowed.since < options_.operation_timeout) {
    std::this_thread::yield();
    attend();
    if (nccl.communicator_state(communicator, &code) != kNcclSuccess) code = kNcclInternalError;
  }
  if (code == kNcclSuccess) return {};
  if (code == kNcclInProgress) return {StatusCode::peer_failed, "NCCL did not get through to the other ranks"};
  return {StatusCode::resource, std::string("NCCL failed: ") + nccl.error_text(code)};
}

void Lane::notice_decisions() {
  for (const auto& batch : batches_) {
    if (batch->state != BatchState::enqueued) continue;
    OnStreams& there = *batch->on_streams;
    // acquire: the device has written the result before.
    const std::uint32_t decided = std::atomic_ref(*there.word.mirror).load(std::memory_order_acquire);
    if (decided == there.word.frozen()) {
      // One of an older communicator has been agreed upon already.
      batch->state = batch->generation == generation_ ? BatchState::frozen : BatchState::waiting;
    } else if (decided == there.word.done()) {
      batch->state = BatchState::held;
      ++done_;
      finish(*batch);
    } else {
      break;  // in the order of the stream
    }
    there.held = decided;
  }
}

// For streams that wait: what the device has frozen is done after all, or broken.
void Lane::set_mirror(Batch& batch, bool done) {
  const Word& word = batch.on_streams->word;
  // release: a stream that sees it sees what was carried.
  std::atomic_ref(*word.mirror).store(done ? word.done() : word.broken(), std::memory_order_release);
}

void Lane::release_stable() {
  for (const auto& batch : batches_)
    if (batch->state == BatchState::held && batch->generation == generation_ && batch->position <= stable_)
      release(*batch);
}

void Lane::release(Batch& batch) {
  if (const auto there = std::exchange(batch.on_streams, std::nullopt)) {
    gpu_->give_back(there->stage);
    gpu_->give_back(there->word, there->held, *there->word.mirror);
    gpu_->give_back_event(there->copied);
  }
  batch.carried = {};
  batch.state = BatchState::ended;
}

}  // namespace hora::cuda
