// What callers' threads and the sentinel ask of a lane. The first may wait inside of the driver, without a lock; the
// second waits for nothing.
#include <limits>
#include <utility>

#include "base/wire.h"
#include "cuda/lane.h"

namespace hora::cuda {

Status Lane::submit(Request& request) {
  auto ready = record_ready(request.producer);
  if (!ready.ok()) return ready.status();
  const MutexLock lock(mutex_);
  if (!refusal_.ok()) {
    ready_events_.push_back(ready.value());
    return refusal_;
  }
  request.lane_ = this;
  request.ready_ = ready.value();
  request.stage_ = Request::Stage::submitted;
  ++unfinished_;
  submitted_.push_back(&request);
  rang_ = true;
  rung_.notify_one();
  return {};
}

Result<EventHandle> Lane::record_ready(StreamHandle producer) {
  const Driver& driver = runtime_->driver;
  EventHandle event = nullptr;
  {
    const MutexLock lock(mutex_);
    if (!refusal_.ok()) return refusal_;
    if (!ready_events_.empty()) {
      event = ready_events_.back();
      ready_events_.pop_back();
    }
  }
  const CurrentContext current(driver, context());
  const auto record = [&]() -> Status {
    HORA_TRY(current.status());
    if (event == nullptr) {
      HORA_DRIVER_TRY(driver, event_create, &event, kEventWithoutTiming);
      const MutexLock lock(mutex_);
      all_ready_events_.push_back(event);
    }
    HORA_DRIVER_TRY(driver, event_record, event, producer);
    return {};
  };
  const Status status = record();
  if (status.ok()) return event;
  const MutexLock lock(mutex_);
  doubt();
  if (event != nullptr) ready_events_.push_back(event);
  return status;
}

// A call may have failed because of what the caller gave, or because the device is lost: the lane's thread asks that.
void Lane::doubt() {
  doubted_ = rang_ = true;
  rung_.notify_one();
}

void Lane::wait_enqueued(Request& request) {
  wait_until([&] { return request.stage_ != Request::Stage::submitted; }, std::nullopt);
}

Status Lane::order(Request& request, StreamHandle stream) {
  wait_enqueued(request);
  EventHandle copied = nullptr;
  DeviceAddress awaited = 0;
  std::uint32_t value = 0;
  {
    const MutexLock lock(mutex_);
    if (request.stage_ == Request::Stage::finished) return {};
    copied = request.copied_;
    awaited = request.awaited_;
    value = request.awaited_value_;
    ++orders_;
  }
  const Status status = make_wait(stream, copied, awaited, value);
  const MutexLock lock(mutex_);
  --orders_;
  if (!status.ok()) doubt();
  return status;
}

// The operation may end meanwhile. Then the event may have been recorded again, for a later operation that is on its
// way too, and the stream waits for that one; the mirror has the value that is awaited, or a greater one.
Status Lane::make_wait(StreamHandle stream, EventHandle copied, DeviceAddress awaited, std::uint32_t value) {
  const Driver& driver = runtime_->driver;
  const CurrentContext current(driver, context());
  HORA_TRY(current.status());
  const std::pair key(stream, std::this_thread::get_id());
  EventHandle passed = nullptr;
  {
    const MutexLock lock(mutex_);
    if (const auto found = passed_.find(key); found != passed_.end()) passed = found->second;
  }
  if (passed == nullptr) {
    HORA_DRIVER_TRY(driver, event_create, &passed, kEventWithoutTiming);
    const MutexLock lock(mutex_);
    all_ready_events_.push_back(passed);
    passed_[key] = passed;
  }
  // The event first: it tells the device's scheduler of the order, and on the fast path the mirror has then been set.
  HORA_DRIVER_TRY(driver, stream_wait_event, stream, copied, 0);
  HORA_DRIVER_TRY(driver, stream_wait_value, stream, awaited, value, kWaitValueAtLeast);
  HORA_DRIVER_TRY(driver, event_record, passed, stream);
  return {};
}

void Lane::entered(const View& view) {
  // At once, whatever the lane's thread does: NCCL waits for who is not there any more.
  if (builder_) builder_->doom(first_generation(view.epoch) - 1);
  const MutexLock lock(mutex_);
  entered_.push_back(view);
  rang_ = true;
  rung_.notify_one();
}

void Lane::told(MemberId from, std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  Message message{from};
  message.kind = static_cast<MessageKind>(in.below(3));
  message.generation = static_cast<Generation>(in.u64());
  message.position = in.u64();
  if (!in.finished()) return log_(LogLevel::warn, "cuda", "member {:x} sent a malformed message", from.value);
  if (message.kind == MessageKind::lost && builder_) builder_->doom(message.generation);
  const MutexLock lock(mutex_);
  if (message.kind != MessageKind::lost) told_.push_back(message);
  rang_ = true;
  rung_.notify_one();
}

bool Lane::drain(std::optional<TimePoint> deadline) {
  return wait_until([this]() REQUIRES(mutex_) { return unfinished_ == 0; }, deadline);
}

bool Lane::flush(std::optional<TimePoint> deadline) {
  if (!drain(deadline)) return false;
  std::uint64_t own = 0;
  {
    const MutexLock lock(mutex_);
    own = ++flushes_;
    rang_ = true;
    rung_.notify_one();
  }
  return wait_until([this, own]() REQUIRES(mutex_) { return flushed_ >= own || !refusal_.ok(); }, deadline);
}

void Lane::stop(const Status& cause) {
  // Before the lane's thread is waited for: it may wait for room on a stream that NCCL keeps busy.
  if (builder_) builder_->doom(std::numeric_limits<Generation>::max());
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    if (refusal_.ok()) refusal_ = cause;
    rung_.notify_one();
    finished_.notify_all();
  }
  thread_.join();
}

}  // namespace hora::cuda
