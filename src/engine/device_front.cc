#include "engine/device_front.h"

#include <utility>

namespace hora::engine {

void DeviceFront::DeviceWork::finished(const Ending& ending) {
  WorkOwner& front = owner;  // a caller that sees the end may release the work at once
  Work::finish(ending.status, {ending.epoch, ending.contributors});
  front.release(this);
}

namespace {

// The context that `stream` belongs to; null where there is none.
cuda::ContextHandle context_of(const cuda::Driver& driver, Stream stream) {
  cuda::ContextHandle context = nullptr;
  if (stream.handle == nullptr) {
    driver.context_current(&context);
  } else if (driver.stream_context(stream.handle, &context) != cuda::kDriverSuccess) {
    context = nullptr;
  }
  return context;
}

Status not_capturing(const cuda::Driver& driver, cuda::ContextHandle context, Stream stream) {
  const cuda::CurrentContext current(driver, context);
  HORA_TRY(current.status());
  int capturing = 0;
  // The default stream cannot be asked while another stream captures that waits for it.
  if (const auto code = driver.stream_is_capturing(stream.handle, &capturing); code == cuda::kDriverCaptureImplicit)
    capturing = 1;
  else if (code != cuda::kDriverSuccess)
    return cuda::driver_status(driver, code, "stream_is_capturing");
  if (capturing == 0) return {};
  return {StatusCode::unsupported,
          "the stream captures a CUDA graph; a collective cannot be part of a graph, since ranks agree on each call"};
}

}  // namespace

Result<std::unique_ptr<DeviceFront>> DeviceFront::start(std::shared_ptr<const cuda::Runtime> runtime, Stream stream,
                                                        Engine& engine, MemberId self, const cuda::LaneOptions& options,
                                                        const Clock& clock, const Log& log) {
  const cuda::ContextHandle context = context_of(runtime->driver, stream);
  if (context == nullptr)
    return Status(StatusCode::invalid_argument,
                  "the stream belongs to no CUDA context; select a device in this thread first (cudaSetDevice)");
  HORA_TRY(not_capturing(runtime->driver, context, stream));
  std::unique_ptr<DeviceFront> front(new DeviceFront(engine, clock));
  front->runtime_ = runtime;
  auto lane = cuda::Lane::start(std::move(runtime), context, engine, self, options, clock, log);
  if (!lane.ok()) return lane.status();
  front->lane_ = std::move(lane).value();
  engine.watch(*front->lane_);
  return front;
}

DeviceFront::DeviceFront(Engine& engine, const Clock& clock) : engine_(engine), clock_(clock) {}

DeviceFront::~DeviceFront() = default;

void DeviceFront::check_stream(Stream stream) const {
  if (context_of(runtime_->driver, stream) != lane_->context())
    throw Error(Status(StatusCode::invalid_argument,
                       "the stream is of another CUDA context than those before; a communicator serves one device"));
  check_capture(stream);
}

void DeviceFront::check_capture(Stream stream) const {
  if (const Status status = not_capturing(runtime_->driver, lane_->context(), stream); !status.ok())
    throw Error(status);
}

Work* DeviceFront::submit_device(std::string_view name, const Signature& signature, const Extent& extent,
                                 Stream stream) {
  check_stream(stream);
  const Meaning meaning = meaning_of(signature, engine_.view());
  DeviceWork& work = *works_.take(2);
  work.tensor.assign(name);
  work.request = signature;
  work.request.root = Rank{0};
  work.root_member = meaning.root;
  work.memory = extent;
  work.producer = stream.handle;
  if (const Status status = lane_->submit(work); !status.ok()) {
    works_.release(&work), works_.release(&work);
    throw Error(status);
  }
  return &work;
}

Work* DeviceFront::run_device(const Signature& signature, const Extent& extent, Stream stream) {
  Work* work = submit_device("", signature, extent, stream);
  lane_->wait_enqueued(static_cast<DeviceWork&>(*work));
  if (work->done()) {
    engine_.adopt_view(work->outcome.epoch);
    if (const Status status = work->status; !status.ok()) {
      release(work);
      throw Error(status);
    }
  }
  try {
    order(*work, stream);
  } catch (...) {
    wait(*work, std::nullopt);  // nobody else could, and the device uses the caller's memory
    release(work);
    throw;
  }
  return work;
}

bool DeviceFront::wait(Work& work, std::optional<Duration> timeout) {
  std::optional<TimePoint> deadline;
  if (timeout) deadline = clock_.now() + *timeout;
  const bool ended = lane_->wait_until([&work] { return work.done(); }, deadline);
  if (ended) engine_.adopt_view(work.outcome.epoch);
  return ended;
}

void DeviceFront::release(Work* work) noexcept {
  works_.release(static_cast<DeviceWork*>(work));
}

// The default stream is here that of the communicator's device, whichever this thread has chosen.
void DeviceFront::order(Work& work, Stream stream) {
  if (stream.handle != nullptr)
    check_stream(stream);
  else
    check_capture(stream);
  if (const Status status = lane_->order(static_cast<DeviceWork&>(work), stream.handle); !status.ok())
    throw Error(status);
}

}  // namespace hora::engine
