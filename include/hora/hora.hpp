// hora: allreduce, broadcast, allgather and barrier among the processes of a job, that keep going when ranks die.
//
//   auto comm = hora::Communicator::init();            // started by `hora run -np 4 ./program`
//   std::vector<float> gradient(1 << 20, 1.0f);
//   comm.allreduce(std::span(gradient), hora::ReduceOp::average);
//   comm.shutdown();
//
// Two fronts over one engine. Ordered, comm.allreduce(...): every rank makes the same calls in the same order, as with
// NCCL and MPI; this has the lowest latency. Negotiated, comm.allreduce_async("name", ...): any order, as with Horovod;
// ranks agree on what is ready everywhere, and small tensors are fused.
//
// When a rank dies, calls that were under way do not fail: survivors agree on a new view, finish or redo what was
// interrupted with the same bits on every survivor, and the call returns with a higher epoch. rank() and size() change
// only when a call returns; on_view_change() tells. What cannot be saved (a broadcast whose root died before anyone had
// it, an allgather whose shape changed) throws Error with StatusCode::peer_failed on every rank, and the next call
// works.
//
// Threads: negotiated calls may come from any thread. Ordered calls from one thread at a time. Memory given to a call
// belongs to the caller, and must stay valid and untouched until the call returns or its Handle is done.
#pragma once

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "hora/export.hpp"
#include "hora/options.hpp"
#include "hora/status.hpp"
#include "hora/types.hpp"
#include "hora/view.hpp"

namespace hora {

namespace engine {
class Session;
class Work;
}  // namespace engine

// The one exception of this facade.
class HORA_EXPORT Error : public std::exception {
 public:
  explicit Error(Status status) : status_(std::move(status)), text_(status_.to_string()) {}
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] StatusCode code() const noexcept { return status_.code(); }
  [[nodiscard]] const Status& status() const noexcept { return status_; }

 private:
  Status status_;
  std::string text_;
};

// Half-precision elements as they lie in memory. hora reduces them in float32 and rounds once; where hosts have several
// ranks and the data are not small, once on each host and once between the hosts, and an average is divided the first
// time, so that no sum of it overflows on the way.
struct Float16 {
  std::uint16_t bits;
};
struct BFloat16 {
  std::uint16_t bits;
};

template <typename T>
inline constexpr bool kIsElement = false;
template <typename T>
inline constexpr DataType kDataTypeOf = DataType::uint8;
#define HORA_ELEMENT(type, value)                \
  template <>                                    \
  inline constexpr bool kIsElement<type> = true; \
  template <>                                    \
  inline constexpr DataType kDataTypeOf<type> = DataType::value;
HORA_ELEMENT(Float16, float16)
HORA_ELEMENT(BFloat16, bfloat16)
HORA_ELEMENT(float, float32)
HORA_ELEMENT(double, float64)
HORA_ELEMENT(std::int8_t, int8)
HORA_ELEMENT(std::int16_t, int16)
HORA_ELEMENT(std::int32_t, int32)
HORA_ELEMENT(std::int64_t, int64)
HORA_ELEMENT(std::uint8_t, uint8)
#undef HORA_ELEMENT

template <typename T>
concept Element = kIsElement<T>;

// How an operation ended. After a failure in the middle of a large in-place allreduce, parts of one result can have
// different contributors (each part has its own divisor too); this tells those of the last part.
struct Outcome {
  Epoch epoch;           // the view in which it ended
  int contributors = 0;  // members whose values are in the result
};

// The work queue of a CUDA device: a CUstream or cudaStream_t. Null: the default stream of the current context.
struct Stream {
  void* handle = nullptr;
};

// A tensor of the negotiated front: where it lies, and its shape (empty: one dimension of `count`).
struct Tensor {
  const void* source = nullptr;
  void* target = nullptr;  // equal to source: in place. For allgather it holds size() times as many elements
  std::uint64_t count = 0;
  DataType dtype = DataType::float32;
  std::span<const std::int64_t> shape = {};
  // Set: source and target are memory of the stream's device, and the source is ready after what is on the stream now.
  std::optional<Stream> stream = std::nullopt;
};

// The pending or ended result of an asynchronous call. Move-only; must not outlive its Communicator. A Handle that is
// dropped does not cancel its operation: the memory stays in use until it ends.
class HORA_EXPORT Handle {
 public:
  Handle() noexcept = default;
  Handle(Handle&& other) noexcept : work_(std::exchange(other.work_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept;
  ~Handle();

  [[nodiscard]] bool valid() const noexcept { return work_ != nullptr; }
  // Never blocks.
  [[nodiscard]] bool done() const noexcept;
  // Blocks until the operation ended, and drives it meanwhile. Throws Error when it failed. May be called again.
  Outcome wait();
  // As wait(), for at most `timeout`. False: not ended yet, the operation goes on unchanged.
  bool wait_for(std::chrono::nanoseconds timeout);
  // For device memory: what is enqueued on `stream` from now on sees the result. Waits until all ranks have submitted
  // the tensor, and for the device only as allreduce() does. A failure is told by wait() alone; memory is then as
  // before.
  void order(Stream stream);

 private:
  friend class Communicator;
  explicit Handle(engine::Work* work) noexcept : work_(work) {}
  engine::Work* work_ = nullptr;
};

class HORA_EXPORT Communicator {
 public:
  // Joins the job that the environment describes, as hora run, mpirun, torchrun and srun leave it (options.hpp);
  // without a launcher a job of one. Collective over the founders. Throws Error: timed_out naming who did not come,
  // invalid_argument naming the variable, mismatch with ranks of another version, job or secret, unsupported for a
  // transport that this machine does not have, resource naming the limit.
  static Communicator init();
  static Communicator init(const Options& options);

  Communicator(Communicator&&) noexcept;
  Communicator& operator=(Communicator&&) noexcept;
  // Without shutdown() before, the others see a death.
  ~Communicator();

  // Of the view that the last call returned in.
  [[nodiscard]] int rank() const noexcept;
  [[nodiscard]] int size() const noexcept;
  // Among the ranks that were started on this host, for the choice of a device: these do not change with the view.
  [[nodiscard]] int local_rank() const noexcept;
  [[nodiscard]] int local_size() const noexcept;
  [[nodiscard]] Epoch epoch() const noexcept;
  [[nodiscard]] const View& view() const noexcept;

  // Ordered front -----------------------------------------------------------------------------------------------------
  // All block until the result is in place, and throw Error: mismatch when ranks made different calls, peer_failed,
  // timed_out after Options::operation_timeout_ms, fenced when this rank was expelled.

  // out[i] = in_0[i] op in_1[i] op ...; `in` and `out` are the same or do not overlap. Average: floating types only.
  Outcome allreduce(const void* in, void* out, std::uint64_t count, DataType dtype, ReduceOp op);
  // Every rank's `data` becomes that of `root` (a rank of view()).
  Outcome broadcast(void* data, std::uint64_t count, DataType dtype, int root);
  // out[r * count + i] = in_r[i]: every rank gives `count` elements and gets size() * count. The size is that of
  // view(): when it changes under the call, the call throws peer_failed and `out` is undefined. `in` may lie in `out`,
  // best at out + rank() * count (NCCL's in-place form): anywhere else it is overwritten.
  Outcome allgather(const void* in, void* out, std::uint64_t count, DataType dtype);
  // The same with ranks and sizes of `seen`, a view that may have passed: they throw peer_failed where the root has
  // died, or the size has changed. To look at view() instead and not to call is wrong where other threads make named
  // calls: these move it at other moments on other ranks, which would then make the call.
  Outcome broadcast(void* data, std::uint64_t count, DataType dtype, int root, const View& seen);
  Outcome allgather(const void* in, void* out, std::uint64_t count, DataType dtype, const View& seen);
  // Returns when every member has called it.
  Outcome barrier();

  template <Element T>
  Outcome allreduce(std::span<const T> in, std::span<T> out, ReduceOp op = ReduceOp::sum) {
    require_equal(in.size(), out.size());
    return allreduce(in.data(), out.data(), in.size(), kDataTypeOf<T>, op);
  }
  template <Element T>
  Outcome allreduce(std::span<T> data, ReduceOp op = ReduceOp::sum) {
    return allreduce(data.data(), data.data(), data.size(), kDataTypeOf<T>, op);
  }
  template <Element T>
  Outcome broadcast(std::span<T> data, int root) {
    return broadcast(data.data(), data.size(), kDataTypeOf<T>, root);
  }
  template <Element T>
  Outcome allgather(std::span<const T> in, std::span<T> out) {
    require_equal(in.size() * static_cast<std::size_t>(size()), out.size());
    return allgather(in.data(), out.data(), in.size(), kDataTypeOf<T>);
  }

  // Device memory of one CUDA device per communicator. The source is ready after what is on `stream` now, and what is
  // enqueued on `stream` afterwards sees the result. Returns once that is enqueued, which waits for the other ranks to
  // make the call, but for the device only where dozens of operations are on it already; the memory stays in use until
  // the handle is done. Throws Error: mismatch; unsupported where there is no driver or device, while observing(), or
  // where the stream captures a graph. Through NCCL where all ranks have it, else through the host. Device operations,
  // named ones among them, run one after another in the order in which ranks agreed on them.
  Handle allreduce(const void* in, void* out, std::uint64_t count, DataType dtype, ReduceOp op, Stream stream);
  Handle broadcast(void* data, std::uint64_t count, DataType dtype, int root, Stream stream);

  // Negotiated front --------------------------------------------------------------------------------------------------
  // A name stands for the same tensor on every rank; it can be in flight once at a time (a second submission fails with
  // invalid_argument). Names are kept as long as the view: use the same ones in each step, not a new one ("loss_17")
  // every time. A view has room for 2^20, then what has another name fails with `resource`. Those that begin with
  // "hora:" are the library's. Submitting never waits for other ranks. A disagreement about a name (shape, dtype,
  // operation, root) fails it with `mismatch` on every rank, naming who said what; other names go on.

  Handle allreduce_async(std::string_view name, const Tensor& tensor, ReduceOp op = ReduceOp::sum);
  // In place: source and target are the same.
  Handle broadcast_async(std::string_view name, const Tensor& tensor, int root);
  Handle allgather_async(std::string_view name, const Tensor& tensor);

  template <Element T>
  Handle allreduce_async(std::string_view name, std::span<T> data, ReduceOp op = ReduceOp::sum) {
    return allreduce_async(name, Tensor{data.data(), data.data(), data.size(), kDataTypeOf<T>, {}}, op);
  }
  template <Element T>
  Handle broadcast_async(std::string_view name, std::span<T> data, int root) {
    return broadcast_async(name, Tensor{data.data(), data.data(), data.size(), kDataTypeOf<T>, {}}, root);
  }
  // The same as submit and wait, without waking the background thread in between.
  Outcome allreduce(std::string_view name, const Tensor& tensor, ReduceOp op = ReduceOp::sum);

  // Elastic jobs ------------------------------------------------------------------------------------------------------
  // A program whose state is registered, and which calls step() between the steps of its loop, can be joined while it
  // runs: `hora run --max-restarts` replaces ranks that died, and the world grows back. Nobody restarts.
  //
  //   comm.register_state("weights", std::span(weights));
  //   comm.register_state("progress", std::span(&progress, 1));
  //   comm.step();                                       // a newcomer has the members' state from here on
  //   while (progress.step < steps) { train_one_step(); ++progress.step; comm.step(); }

  // Memory that a newcomer needs to take part: parameters, optimizer, counters, a sampler's position. All ranks
  // register the same names and sizes before their first step(). The memory stays the caller's; it is read, and in a
  // newcomer written, inside of step() only.
  void register_state(std::string_view name, std::span<std::byte> memory);
  template <typename T>
  void register_state(std::string_view name, std::span<T> data) {
    static_assert(std::is_trivially_copyable_v<T> && !std::is_const_v<T>);
    register_state(name, std::as_writable_bytes(data));
  }
  // A step boundary: the state is whole and no handle is pending. Every member calls it between the same two
  // operations. Newcomers enter here, so rank() and size() may have changed when it returns. A newcomer's first call
  // blocks until it has received the state; calls that it makes before do nothing and leave memory as it is.
  // Throws Error: invalid_argument with handles pending; mismatch in a newcomer whose program does not do what the
  // members' does; peer_failed in a newcomer whose donor died (start it again).
  void step();
  // This process has not entered yet: its calls return what a member's calls returned, its rank() and view() are that
  // member's, and what it contributes is ignored. Skip expensive work and all side effects.
  [[nodiscard]] bool observing() const noexcept;

  // Membership --------------------------------------------------------------------------------------------------------

  // `callback(before, after)` runs on the thread of a call or wait() that is about to return in a new view, before it
  // returns. It may call rank(), size() and view(), not collectives. What it throws ends the process. Replaces the
  // callback before.
  void on_view_change(std::function<void(const View& before, const View& after)> callback);
  // For interpreters, whose users press Ctrl-C. `interrupted` is asked every half second by a thread that waits in an
  // ordered collective, and runs on it. When it returns true the call throws timed_out (or what `interrupted` throws);
  // its operation goes on, and its memory stays in use until the next ordered call has returned. That one waits for it
  // first: interrupted meanwhile, or where ranks have changed their meaning, it throws try_again and has done nothing.
  // step() and flush() are not interrupted.
  void interrupt_waits(std::function<bool()> interrupted);
  // Returns when every result this rank has released is known to be held by every member (STABLE): from then on no
  // failure can make it not have happened. Do this before a checkpoint or any other effect outside of the job. Not
  // collective. Waits for members that are alive, as long as they are. Throws Error: fenced, shut_down.
  void flush();
  // Leaves the job in order: finishes nothing, waits until the others know (at most `timeout`). Pending operations end
  // with shut_down, or as this call throws. Nothing can be called afterwards. Throws Error: timed_out when they have
  // not confirmed it by then, or most of them are mute: this rank has left all the same, and the others see a death;
  // fenced, or why else it was no member any more: what it released may not have happened for the others.
  void shutdown(std::chrono::milliseconds timeout = std::chrono::seconds(10));

 private:
  explicit Communicator(std::unique_ptr<engine::Session> session);
  static void require_equal(std::size_t given, std::size_t wanted);
  std::unique_ptr<engine::Session> session_;
};

}  // namespace hora
