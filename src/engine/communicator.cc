// The C++ facade: checks what the caller gave, and hands it to the engine.
#include <fmt/format.h>

#include <algorithm>

#include "collectives/reduce_kernels.h"
#include "engine/session.h"
#include "hora/hora.hpp"

namespace hora {

namespace {

constexpr std::uint64_t kCountLimit = std::uint64_t{1} << 40;
constexpr auto kLongestWait =
    std::chrono::hours(24 * 365);  // whoever waits for longer gets this: clocks do not overflow
constexpr std::string_view kOwnNames = "hora:";

[[noreturn]] void refuse(const std::string& text) {
  throw Error(Status(StatusCode::invalid_argument, text));
}

void check_buffer(Collective kind, const void* memory, std::uint64_t count) {
  if (count >= kCountLimit) refuse(fmt::format("{}: {} elements are more than 2^40 - 1", to_string(kind), count));
  if (memory == nullptr && count > 0) refuse(fmt::format("{}: null buffer for {} elements", to_string(kind), count));
}

bool overlap(const void* in, std::uint64_t in_bytes, const void* out, std::uint64_t out_bytes) {
  const auto first = reinterpret_cast<std::uintptr_t>(in);
  const auto second = reinterpret_cast<std::uintptr_t>(out);
  return first < second + out_bytes && second < first + in_bytes;
}

Extent extent_of(const void* source, void* target, std::uint64_t count, DataType dtype) {
  return {static_cast<const std::byte*>(source), static_cast<std::byte*>(target), count * size_of(dtype)};
}

// Of an allreduce that is allowed; throws otherwise, as those below.
Extent allreduce_extent(const void* in, void* out, std::uint64_t count, DataType dtype, ReduceOp op) {
  check_buffer(Collective::allreduce, in, count);
  check_buffer(Collective::allreduce, out, count);
  if (!collectives::is_supported(dtype, op))
    refuse(fmt::format("allreduce: {} of {} is not defined; use sum, or a floating type", to_string(op),
                       to_string(dtype)));
  const Extent extent = extent_of(in, out, count, dtype);
  if (in != out && overlap(in, extent.bytes, out, extent.bytes))
    refuse("allreduce: input and output overlap in part; give the same buffer or separate ones");
  return extent;
}

Extent broadcast_extent(void* data, std::uint64_t count, DataType dtype, int root, int size) {
  check_buffer(Collective::broadcast, data, count);
  if (root < 0 || root >= size) refuse(fmt::format("broadcast: root {} is not a rank of {}", root, size));
  return extent_of(data, data, count, dtype);
}

Extent allgather_extent(const void* in, void* out, std::uint64_t count, DataType dtype) {
  check_buffer(Collective::allgather, in, count);
  check_buffer(Collective::allgather, out, count);
  return extent_of(in, out, count, dtype);
}

// The library agrees with its like by names of its own.
void check_name(std::string_view name) {
  if (name.starts_with(kOwnNames))
    refuse(fmt::format("'{}': names that begin with '{}' are the library's own", name, kOwnNames));
}

// `attended`: the caller waits right away.
engine::Work* submit_allreduce(engine::Session& session, std::string_view name, const Tensor& tensor, ReduceOp op,
                               bool attended) {
  check_name(name);
  const Extent extent = allreduce_extent(tensor.source, tensor.target, tensor.count, tensor.dtype, op);
  const Signature signature{Collective::allreduce, tensor.dtype, op, Rank{0}, tensor.count};
  if (tensor.stream) return session.device(*tensor.stream).submit_device(name, signature, extent, *tensor.stream);
  return session.front().submit(name, signature, tensor.shape, extent, attended);
}

}  // namespace

Handle& Handle::operator=(Handle&& other) noexcept {
  if (this == &other) return *this;
  if (work_ != nullptr) work_->owner.release(work_);
  work_ = std::exchange(other.work_, nullptr);
  return *this;
}

Handle::~Handle() {
  if (work_ != nullptr) work_->owner.release(work_);
}

bool Handle::done() const noexcept {
  return work_ == nullptr || work_->done();
}

Outcome Handle::wait() {
  if (work_ == nullptr) refuse("wait() on a handle that stands for nothing");
  work_->owner.wait(*work_, std::nullopt);
  if (!work_->status.ok()) throw Error(work_->status);
  return work_->outcome;
}

void Handle::order(Stream stream) {
  if (work_ == nullptr) refuse("order() on a handle that stands for nothing");
  work_->owner.order(*work_, stream);
}

bool Handle::wait_for(std::chrono::nanoseconds timeout) {
  if (work_ == nullptr) refuse("wait_for() on a handle that stands for nothing");
  if (!work_->owner.wait(*work_, std::min<std::chrono::nanoseconds>(timeout, kLongestWait))) return false;
  if (!work_->status.ok()) throw Error(work_->status);
  return true;
}

Communicator Communicator::init() {
  auto options = Options::from_environment();
  if (!options.ok()) throw Error(options.status());
  return init(options.value());
}

Communicator Communicator::init(const Options& options) {
  auto session = engine::Session::start(options);
  if (!session.ok()) throw Error(session.status());
  return Communicator(std::move(session).value());
}

Communicator::Communicator(std::unique_ptr<engine::Session> session) : session_(std::move(session)) {}
Communicator::Communicator(Communicator&&) noexcept = default;
Communicator& Communicator::operator=(Communicator&&) noexcept = default;
Communicator::~Communicator() = default;

int Communicator::rank() const noexcept {
  return session_->front().rank().value;
}
int Communicator::size() const noexcept {
  return view().size();
}
int Communicator::local_rank() const noexcept {
  return session_->local_rank();
}
int Communicator::local_size() const noexcept {
  return session_->local_size();
}
Epoch Communicator::epoch() const noexcept {
  return view().epoch;
}
const View& Communicator::view() const noexcept {
  return session_->front().view();
}

Outcome Communicator::allreduce(const void* in, void* out, std::uint64_t count, DataType dtype, ReduceOp op) {
  return session_->front().run_ordered({Collective::allreduce, dtype, op, Rank{0}, count},
                                       allreduce_extent(in, out, count, dtype, op));
}

Outcome Communicator::broadcast(void* data, std::uint64_t count, DataType dtype, int root) {
  return broadcast(data, count, dtype, root, view());
}

Outcome Communicator::broadcast(void* data, std::uint64_t count, DataType dtype, int root, const View& seen) {
  return session_->front().run_ordered({Collective::broadcast, dtype, ReduceOp::sum, Rank{root}, count},
                                       broadcast_extent(data, count, dtype, root, seen.size()), seen);
}

Outcome Communicator::allgather(const void* in, void* out, std::uint64_t count, DataType dtype) {
  return allgather(in, out, count, dtype, view());
}

Outcome Communicator::allgather(const void* in, void* out, std::uint64_t count, DataType dtype, const View& seen) {
  return session_->front().run_ordered({Collective::allgather, dtype, ReduceOp::sum, Rank{0}, count},
                                       allgather_extent(in, out, count, dtype), seen);
}

Outcome Communicator::barrier() {
  return session_->front().run_ordered({Collective::barrier, DataType::uint8, ReduceOp::sum, Rank{0}, 0}, {});
}

Handle Communicator::allreduce(const void* in, void* out, std::uint64_t count, DataType dtype, ReduceOp op,
                               Stream stream) {
  return Handle(session_->device(stream).run_device({Collective::allreduce, dtype, op, Rank{0}, count},
                                                    allreduce_extent(in, out, count, dtype, op), stream));
}

Handle Communicator::broadcast(void* data, std::uint64_t count, DataType dtype, int root, Stream stream) {
  return Handle(session_->device(stream).run_device({Collective::broadcast, dtype, ReduceOp::sum, Rank{root}, count},
                                                    broadcast_extent(data, count, dtype, root, size()), stream));
}

Handle Communicator::allreduce_async(std::string_view name, const Tensor& tensor, ReduceOp op) {
  return Handle(submit_allreduce(*session_, name, tensor, op, false));
}

Outcome Communicator::allreduce(std::string_view name, const Tensor& tensor, ReduceOp op) {
  return Handle(submit_allreduce(*session_, name, tensor, op, true)).wait();
}

Handle Communicator::broadcast_async(std::string_view name, const Tensor& tensor, int root) {
  check_name(name);
  if (tensor.source != nullptr && tensor.source != tensor.target)
    refuse(fmt::format("broadcast '{}' is in place: give the same memory as source and target", name));
  const Signature signature{Collective::broadcast, tensor.dtype, ReduceOp::sum, Rank{root}, tensor.count};
  const Extent extent = broadcast_extent(tensor.target, tensor.count, tensor.dtype, root, size());
  if (tensor.stream)
    return Handle(session_->device(*tensor.stream).submit_device(name, signature, extent, *tensor.stream));
  return Handle(session_->front().submit(name, signature, tensor.shape, extent, false));
}

Handle Communicator::allgather_async(std::string_view name, const Tensor& tensor) {
  check_name(name);
  if (tensor.stream) refuse("allgather of device memory is not supported; copy it to the host");
  return Handle(session_->front().submit(
      name, {Collective::allgather, tensor.dtype, ReduceOp::sum, Rank{0}, tensor.count}, tensor.shape,
      allgather_extent(tensor.source, tensor.target, tensor.count, tensor.dtype), false));
}

void Communicator::on_view_change(std::function<void(const View& before, const View& after)> callback) {
  session_->on_view_change(std::move(callback));
}

void Communicator::interrupt_waits(std::function<bool()> interrupted) {
  session_->interrupt_waits(std::move(interrupted));
}

void Communicator::register_state(std::string_view name, std::span<std::byte> memory) {
  if (const Status status = session_->state().add(name, memory); !status.ok()) throw Error(status);
}

void Communicator::step() {
  session_->step();
}

bool Communicator::observing() const noexcept {
  return session_->observing();
}

void Communicator::flush() {
  session_->flush();
}

void Communicator::shutdown(std::chrono::milliseconds timeout) {
  if (const Status status = session_->leave(std::min<std::chrono::milliseconds>(timeout, kLongestWait)); !status.ok())
    throw Error(status);
}

void Communicator::require_equal(std::size_t given, std::size_t wanted) {
  if (given != wanted) refuse(fmt::format("buffers of {} and {} elements do not fit together", given, wanted));
}

}  // namespace hora
