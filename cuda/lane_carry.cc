// What no communicator carries: to pinned memory, through a named operation of the host, and back. Slow, and right in
// every view: the host's operation has all guarantees of the engine.
#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "cuda/lane.h"

namespace hora::cuda {

namespace {
// Batches under way at the host at one time; each has a name of its own, and names are kept.
constexpr std::uint64_t kCarriedMost = 64;
constexpr std::size_t kCacheLine = 64;

// Batches that a communicator was meant to move are carried at a repair only, all of them in order.
bool is_second_try(const Batch& batch) {
  return batch.generation != 0;
}
}  // namespace

void Lane::advance(Batch& batch) {
  if (batch.state == BatchState::waiting) {
    for (const auto& earlier : batches_)
      if (earlier->index + kCarriedMost <= batch.index && earlier->state != BatchState::ended &&
          is_second_try(*earlier) == is_second_try(batch))
        return;
    if (const Status status = fill(batch); !status.ok()) return fail(batch, status);
    batch.state = BatchState::filling;
  }
  if (batch.state != BatchState::filling && batch.state != BatchState::emptying) return;
  const DriverCode moved = state_of(batch.moved);
  if (moved == kDriverNotReady) return;
  if (moved != kDriverSuccess) return fail(batch, driver_status(runtime_->driver, moved, "cuEventQuery"));
  if (batch.state == BatchState::filling)
    exchange(batch);
  else
    end_carrying(batch);
}

Status Lane::fill(Batch& batch) {
  const Driver& driver = runtime_->driver;
  const bool result = batch.cargo == Cargo::result;
  const std::size_t bytes =
      batch.signature.count * (result ? batch.staging.element_bytes : size_of(batch.signature.dtype));
  batch.carried_bytes = result ? bytes + 1 : bytes;  // the last one: whether a result is there
  const std::size_t apart = (batch.carried_bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  auto pinned = gpu_->take_pinned_block(2 * apart);
  if (!pinned.ok()) return pinned.status();
  batch.pinned = pinned.value();
  // Not in place: the host then does an operation that a view change interrupts again as a whole, so that every
  // element of it has the same contributors.
  batch.arrived =
      batch.signature.kind == Collective::broadcast && !result ? batch.pinned.memory : batch.pinned.memory + apart;
  auto stream = gpu_->take_stream();
  if (!stream.ok()) return stream.status();
  batch.stream = stream.value();
  auto moved = gpu_->take_event();
  if (!moved.ok()) return moved.status();
  batch.moved = moved.value();
  if (result) {
    std::memset(batch.pinned.memory, 0, bytes);
    batch.pinned.memory[bytes] = std::byte{batch.holds_result};
    if (batch.holds_result && bytes > 0)
      HORA_DRIVER_TRY(driver, copy_to_host, batch.pinned.memory, batch.stage.address, bytes, batch.stream);
  } else if (batch.signature.kind == Collective::allreduce || is_root(batch)) {
    std::byte* to = batch.pinned.memory;
    for (const Request* request : batch.requests) {
      HORA_DRIVER_TRY(driver, stream_wait_event, batch.stream, request->ready_, 0);
      const auto from = reinterpret_cast<DeviceAddress>(request->memory.source);
      if (request->memory.bytes > 0)
        HORA_DRIVER_TRY(driver, copy_to_host, to, from, request->memory.bytes, batch.stream);
      to += request->memory.bytes;
    }
  } else {
    // The target may be written once the caller's stream has come to the call.
    for (const Request* request : batch.requests)
      HORA_DRIVER_TRY(driver, stream_wait_event, batch.stream, request->ready_, 0);
  }
  HORA_DRIVER_TRY(driver, event_record, batch.moved, batch.stream);
  HORA_DRIVER_TRY(driver, stream_call_host, batch.stream, &Lane::ring_from_driver, this);
  return {};
}

void Lane::exchange(Batch& batch) {
  batch.state = BatchState::exchanging;
  const bool result = batch.cargo == Cargo::result;
  // Whoever has the result contributes it and a one, everybody else zeros: the greatest is the result.
  const Signature signature =
      result ? Signature{Collective::allreduce, DataType::uint8, ReduceOp::max, Rank{0}, batch.carried_bytes}
             : batch.signature;
  const char* subject = is_second_try(batch) ? "again" : "carry";
  plane_.run(fmt::format("hora:device:{}:{}", subject, batch.index % kCarriedMost), signature, batch.root,
             {batch.pinned.memory, batch.arrived, batch.carried_bytes}, batch);
}

void Lane::exchanged(Batch& batch, const Ending& ending) {
  if (!ending.status.ok()) {
    batch.ending = ending;
  } else if (batch.cargo == Cargo::inputs) {
    batch.ending = ending;
  } else if (batch.arrived[batch.carried_bytes - 1] == std::byte{0}) {
    // Who had the result has died since: it is done at nobody, so it is done again.
    gpu_->give_back(std::exchange(batch.pinned, {}));
    gpu_->give_back_stream(std::exchange(batch.stream, nullptr));
    gpu_->give_back_event(std::exchange(batch.moved, nullptr));
    batch.cargo = Cargo::inputs;
    batch.state = BatchState::waiting;
    return;
  }
  if (const Status status = empty(batch, !ending.status.ok()); !status.ok()) return fail(batch, status);
  batch.state = BatchState::emptying;
}

Status Lane::empty(Batch& batch, bool broken) {
  const Driver& driver = runtime_->driver;
  const bool forwarded = !broken && batch.cargo == Cargo::result && !batch.holds_result;
  if (forwarded) {
    if (!batch.on_streams) {  // it never came to the communicator, or not whole
      const std::size_t bytes = batch.signature.count * batch.staging.element_bytes;
      auto stage = gpu_->take_device_block(bytes);
      if (!stage.ok()) return stage.status();
      batch.stage = stage.value();
      auto word = gpu_->take_word();
      if (!word.ok()) return word.status();
      batch.word = word.value();
    }
    const std::size_t bytes = batch.signature.count * batch.staging.element_bytes;
    if (bytes > 0) HORA_DRIVER_TRY(driver, copy_to_device, batch.stage.address, batch.arrived, bytes, batch.stream);
    const std::uint32_t from = batch.on_streams ? batch.word->frozen() : batch.word->pending;
    HORA_TRY(copy_out(batch, {&flags_[0], from, batch.word->done()}, !is_root(batch), batch.stream));
    batch.word_is_set = true;
  } else {
    const std::byte* from = batch.arrived;
    if (!broken && batch.cargo == Cargo::inputs && !is_root(batch)) {
      for (const Request* request : batch.requests) {
        const auto to = reinterpret_cast<DeviceAddress>(request->memory.target);
        if (request->memory.bytes > 0)
          HORA_DRIVER_TRY(driver, copy_to_device, to, from, request->memory.bytes, batch.stream);
        from += request->memory.bytes;
      }
    }
    if (batch.on_streams && !batch.holds_result) {
      const std::uint32_t to = broken ? batch.word->broken() : batch.word->done();
      HORA_TRY(copy_out(batch, {&flags_[0], batch.word->frozen(), to}, false, batch.stream));
      batch.word_is_set = true;
    }
  }
  HORA_DRIVER_TRY(driver, event_record, batch.moved, batch.stream);
  HORA_DRIVER_TRY(driver, stream_call_host, batch.stream, &Lane::ring_from_driver, this);
  return {};
}

void Lane::end_carrying(Batch& batch) {
  finish(batch);
  gpu_->give_back(std::exchange(batch.pinned, {}));
  gpu_->give_back_stream(std::exchange(batch.stream, nullptr));
  gpu_->give_back_event(std::exchange(batch.moved, nullptr));
  gpu_->give_back_event(std::exchange(batch.copied, nullptr));
  gpu_->give_back(std::exchange(batch.stage, {}));
  // One that was taken and never set is not used again: it may still be decided by what is on the stream.
  if (batch.word_is_set)
    gpu_->give_back(*batch.word, batch.ending.status.ok() ? batch.word->done() : batch.word->broken());
  batch.state = BatchState::ended;
}

// The device does not do what it is told. The other members wait for this one, until it ends. What waits for the word
// on streams goes on, if the device still does that much.
void Lane::fail(Batch& batch, const Status& status) {
  log_(LogLevel::error, "cuda", "device operation #{} cannot be carried: {}", batch.index, status.message());
  if (batch.on_streams && !batch.word_is_set)
    (void)copy_out(batch, {&flags_[0], batch.word->frozen(), batch.word->broken()}, false, notices_);
  batch.ending.status = status;
  finish(batch);
  batch.state = BatchState::ended;
}

}  // namespace hora::cuda
