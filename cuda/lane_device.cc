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

}  // namespace

Pieces Lane::pieces_of(const Batch& batch, bool targets) const {
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

// A member that cannot enqueue leaves its communicator: the others learn of it, and the host carries the operation.
void Lane::enqueue(Batch& batch) {
  batch.position = ++positions_;
  batch.state = BatchState::frozen;
  if (!communicator_ || lost_) return;
  batch.since = clock_.now();
  const Status status = put_on_streams(batch);
  if (!status.ok()) {
    log_(LogLevel::warn, "cuda", "device operation #{}: {}; the host carries it", batch.index, status.message());
    lose();
    return;
  }
  batch.state = BatchState::enqueued;
  batch.on_streams = true;
  const MutexLock lock(mutex_);
  for (Request* request : batch.requests) {
    request->stage_ = Request::Stage::enqueued;
    request->copied_ = batch.copied;
    request->word_ = batch.word->address;
    request->word_ended_ = batch.word->ended();
  }
  finished_.notify_all();
}

Status Lane::put_on_streams(Batch& batch) {
  const Driver& driver = runtime_->driver;
  auto stage = gpu_->take_device_block(std::max<std::size_t>(batch.signature.count * batch.staging.element_bytes, 1));
  if (!stage.ok()) return stage.status();
  batch.stage = stage.value();
  auto word = gpu_->take_word();
  if (!word.ok()) return word.status();
  batch.word = word.value();
  auto copied = gpu_->take_event();
  if (!copied.ok()) return copied.status();
  batch.copied = copied.value();
  for (const Request* request : batch.requests) HORA_DRIVER_TRY(driver, stream_wait_event, stream_, request->ready_, 0);
  if (batch.signature.kind == Collective::allreduce || is_root(batch))
    HORA_TRY(gpu_->copy_in(batch.staging.in, pieces_of(batch, false), batch.stage.address, stream_));
  HORA_TRY(reduce(batch));
  HORA_TRY(copy_out(batch, {abort_flag_, batch.word->pending, batch.word->done()}, !is_root(batch), stream_));
  HORA_DRIVER_TRY(driver, event_record, batch.copied, stream_);
  HORA_DRIVER_TRY(driver, stream_wait_event, notices_, batch.copied, 0);
  HORA_DRIVER_TRY(driver, stream_call_host, notices_, &Lane::ring_from_driver, this);
  return {};
}

// NCCL, in place on the stage. Returns when it has put its work on the stream, which takes long only for the first
// operations of a communicator: it then connects.
Status Lane::reduce(const Batch& batch) {
  const Nccl& nccl = *runtime_->nccl;
  void* stage = reinterpret_cast<void*>(batch.stage.address);
  const std::size_t bytes = batch.signature.count * batch.staging.element_bytes;
  NcclCode code = kNcclSuccess;
  if (batch.signature.kind == Collective::allreduce) {
    code = nccl.allreduce(stage, stage, batch.signature.count, nccl_type(batch.signature.dtype),
                          nccl_op(batch.signature.op), *communicator_, stream_);
  } else {
    const auto root = views_.at(generation_epoch_).rank_of(batch.root);
    if (!root) return {StatusCode::peer_failed, "the root is no member of the communicator"};
    code = nccl.broadcast(stage, stage, bytes, NcclType::uint8, root->value, *communicator_, stream_);
  }
  const auto goes_on = [&] {
    return entered_epoch_.load(std::memory_order_acquire) == generation_epoch_.value &&
           clock_.now() - batch.since < options_.operation_timeout;
  };
  while (code == kNcclInProgress && goes_on()) {
    std::this_thread::yield();
    if (nccl.communicator_state(*communicator_, &code) != kNcclSuccess) code = kNcclInternalError;
  }
  if (code == kNcclSuccess) return {};
  return {StatusCode::resource, std::string("NCCL failed: ") + nccl.error_text(code)};
}

// Decides the operation on the device, and copies its result to the targets if that is what was decided.
Status Lane::copy_out(Batch& batch, const Verdict& verdict, bool with_memory, StreamHandle stream) {
  const Decision decision{reinterpret_cast<std::uint32_t*>(batch.word->address), verdict.flag, verdict.from, verdict.to,
                          batch.word->frozen()};
  Pieces pieces{};
  if (with_memory) pieces = pieces_of(batch, true);
  const double divisor = batch.signature.op == ReduceOp::average ? batch.ending.contributors : 1;
  HORA_TRY(gpu_->copy_out(batch.staging.out, pieces, batch.stage.address, divisor, decision, stream));
  HORA_DRIVER_TRY(runtime_->driver, copy_to_host, batch.word->mirror, batch.word->address, sizeof(std::uint32_t),
                  stream);
  return {};
}

void Lane::notice_decisions() {
  for (const auto& batch : batches_) {
    if (batch->state != BatchState::enqueued) continue;
    // acquire: the device has written the result before.
    const std::uint32_t decided = std::atomic_ref(*batch->word->mirror).load(std::memory_order_acquire);
    if (decided == batch->word->frozen()) {
      // One of an older communicator has been agreed upon already.
      batch->state = batch->generation == generation_ ? BatchState::frozen : BatchState::waiting;
    } else if (decided == batch->word->done()) {
      batch->state = BatchState::held;
      ++done_;
      finish(*batch);
      gpu_->give_back(*std::exchange(batch->word, std::nullopt), decided);
      gpu_->give_back_event(std::exchange(batch->copied, nullptr));
    } else {
      break;  // in the order of the stream
    }
  }
  for (const auto& batch : batches_)
    if (batch->state == BatchState::held && batch->generation == generation_ && batch->position <= stable_)
      release_stage(*batch);
}

void Lane::release_stage(Batch& batch) {
  gpu_->give_back(std::exchange(batch.stage, {}));
  batch.state = BatchState::ended;
}

}  // namespace hora::cuda
