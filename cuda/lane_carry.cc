// What no communicator carries: to memory of the host, through a named operation there, and back. Slow, and right in
// every view: the host's operation has all guarantees of the engine.
#include <fmt/format.h>

#include <cstring>
#include <new>
#include <utility>

#include "cuda/lane.h"

namespace hora::cuda {

namespace {
// Batches under way at the host at one time; each has a name of its own, and names are kept.
constexpr std::uint64_t kCarriedMost = 64;
constexpr std::size_t kCacheLine = 64;

std::size_t staged_bytes(const Batch& batch) {
  return batch.signature.count * batch.staging.element_bytes;
}
}  // namespace

// After an error the device is not to be used any more.
Status Lane::advance(Batch& batch) {
  if (batch.state == BatchState::waiting) {
    // Batches that a communicator was meant to move are carried at a repair only, all of them in order.
    for (const auto& earlier : batches_)
      if (earlier->index + kCarriedMost <= batch.index && earlier->state != BatchState::ended &&
          earlier->was_for_nccl() == batch.was_for_nccl())
        return {};
    const auto ready = is_ready(batch);
    if (!ready.ok()) return ready.status();
    if (!ready.value()) return {};
    HORA_TRY(fill(batch));
    batch.state = BatchState::filling;
  }
  if (!batch.carried.passage.ended()) return {};
  if (batch.state == BatchState::filling)
    exchange(batch);
  else if (batch.state == BatchState::emptying)
    end_carrying(batch);
  return {};
}

// The callers' streams have come to their calls: sources can be read, and targets be written. No stream waits for that:
// what would be behind it there may be what those streams wait for.
Result<bool> Lane::is_ready(const Batch& batch) const {
  for (const Request* request : batch.requests) {
    const DriverCode code = runtime_->driver.event_query(request->ready_);
    if (code == kDriverNotReady) return false;
    if (code != kDriverSuccess) return driver_status(runtime_->driver, code, "event_query");
  }
  return true;
}

Status Lane::fill(Batch& batch) {
  Carried& carried = batch.carried;
  const bool result = carried.cargo == Cargo::result;
  const std::size_t bytes = result ? staged_bytes(batch) : batch.signature.count * size_of(batch.signature.dtype);
  carried.bytes = result ? bytes + 1 : bytes;  // the last one: whether a result is there
  const std::size_t apart = (carried.bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
  // Not in place: the host then does an operation that a view change interrupts again as a whole, so that every
  // element of it has the same contributors.
  const bool in_place = batch.signature.kind == Collective::broadcast && !result;
  carried.memory.reset(new (std::nothrow) std::byte[in_place ? apart : 2 * apart]);
  if (carried.memory == nullptr)
    return {StatusCode::resource, fmt::format("the host has no memory for {} bytes of a tensor", 2 * apart)};
  carried.arrived = carried.memory.get() + (in_place ? 0 : apart);
  Passage& passage = carried.passage = {};
  passage.host = carried.memory.get();
  if (result) {
    carried.memory[bytes] = std::byte{carried.holds_result};
    if (carried.holds_result)
      passage.strips.push_back({batch.on_streams->stage.address, bytes});
    else
      std::memset(carried.memory.get(), 0, bytes);
  } else if (batch.signature.kind == Collective::allreduce || is_root(batch)) {
    for (const Request* request : batch.requests)
      passage.strips.push_back({reinterpret_cast<std::uintptr_t>(request->memory.source), request->memory.bytes});
  }
  if (!passage.strips.empty()) passage.bytes = bytes;
  if (passage.bytes > 0) ferry_->to_host(passage);
  return ferry_->advance();
}

void Lane::exchange(Batch& batch) {
  batch.state = BatchState::exchanging;
  const Carried& carried = batch.carried;
  // Whoever has the result contributes it and a one, everybody else zeros: the greatest is the result.
  const Signature signature = carried.cargo == Cargo::result ? Signature{Collective::allreduce, DataType::uint8,
                                                                         ReduceOp::max, Rank{0}, carried.bytes}
                                                             : batch.signature;
  const char* subject = batch.was_for_nccl() ? "again" : "carry";
  plane_.run(fmt::format("hora:device:{}:{}", subject, batch.index % kCarriedMost), signature, batch.root,
             {carried.memory.get(), carried.arrived, carried.bytes}, batch);
}

void Lane::exchanged(Batch& batch, const Ending& ending) {
  Carried& carried = batch.carried;
  batch.state = BatchState::emptying;
  carried.passage = {};
  if (!ending.status.ok() || carried.cargo == Cargo::inputs) {
    batch.ending = ending;
  } else if (carried.arrived[carried.bytes - 1] == std::byte{0}) {
    // Who had the result has died since: it is done at nobody, so it is done again.
    carried.cargo = Cargo::inputs;
    batch.state = BatchState::waiting;
    return;
  }
  if (ending.status.ok() && !is_root(batch)) empty(batch);
}

void Lane::empty(Batch& batch) {
  Carried& carried = batch.carried;
  Passage& passage = carried.passage;
  passage.host = carried.arrived;
  if (carried.cargo == Cargo::inputs) {
    for (const Request* request : batch.requests) {
      passage.strips.push_back({reinterpret_cast<std::uintptr_t>(request->memory.target), request->memory.bytes});
      passage.bytes += request->memory.bytes;
    }
  } else if (!carried.holds_result) {
    passage.unpacking = {pieces_of(batch, true), batch.staging, size_of(batch.signature.dtype), divisor_of(batch)};
    passage.bytes = staged_bytes(batch);
  }
  if (passage.bytes > 0) ferry_->to_device(passage);
}

// The host has seen the end of the copies; what waits on streams goes on.
void Lane::end_carrying(Batch& batch) {
  if (batch.on_streams && !batch.carried.holds_result) set_mirror(batch, batch.ending.status.ok());
  finish(batch);
  release(batch);
}

}  // namespace hora::cuda
