#include "communicator.h"

#include <unistd.h>

#include <cmath>
#include <functional>
#include <span>

#include "options.h"

namespace hora::python {

namespace py = pybind11;

namespace {

[[noreturn]] void refuse(const std::string& text) {
  throw py::value_error(text);
}

// Source and target of a reduction: one array, where they are the same.
std::vector<Array> read_pair(const char* operation, py::handle source, py::handle target) {
  std::vector<Array> arrays;
  const bool in_place = target.is_none() || target.is(source);
  arrays.emplace_back(source, in_place ? "the tensor" : "the source", in_place ? Access::write : Access::read);
  if (in_place) return arrays;
  arrays.emplace_back(target, "the target", Access::write);
  if (!arrays[0].same_type(arrays[1]))
    throw py::type_error(std::string(operation) + ": the source is " + arrays[0].type_name() + " and the target " +
                         arrays[1].type_name() + "; give two of one type");
  return arrays;
}

std::vector<Array> read_reduction(py::handle source, py::handle target) {
  std::vector<Array> arrays = read_pair("allreduce", source, target);
  if (arrays.back().count() != arrays.front().count())
    refuse("allreduce: the source has " + std::to_string(arrays[0].count()) + " elements and the target " +
           std::to_string(arrays[1].count()) + "; give two of one size");
  return arrays;
}

std::vector<Array> read_gathering(py::handle source, py::handle target, int size) {
  if (target.is_none()) throw py::type_error("allgather: give a target of size() times the source's elements");
  std::vector<Array> arrays = read_pair("allgather", source, target);
  const std::uint64_t wanted = arrays.front().count() * static_cast<std::uint64_t>(size);
  if (arrays.back().count() != wanted)
    refuse("allgather: the target has " + std::to_string(arrays.back().count()) + " elements; " + std::to_string(size) +
           " ranks with " + std::to_string(arrays.front().count()) + " each need " + std::to_string(wanted));
  return arrays;
}

std::vector<Array> read_one(py::handle tensor) {
  std::vector<Array> arrays;
  arrays.emplace_back(tensor, "the tensor", Access::write);
  return arrays;
}

Tensor tensor_of(const std::vector<Array>& arrays, const Payload& payload) {
  const bool as_it_is = payload.count == arrays.front().count();
  return {arrays.front().data(), arrays.back().data(), payload.count, payload.dtype,
          as_it_is ? arrays.front().shape() : std::span<const std::int64_t>()};
}

}  // namespace

std::shared_ptr<Communicator> Communicator::init(const py::kwargs& keywords) {
  const Options options = options_of(keywords);
  std::optional<hora::Communicator> native;
  {
    const py::gil_scoped_release released;
    native.emplace(hora::Communicator::init(options));
  }
  return std::shared_ptr<Communicator>(new Communicator(std::move(*native)));
}

Communicator::Communicator(hora::Communicator native) : native_(std::move(native)), process_(::getpid()) {
  // Asked on the thread that waits, in Python's own state of that thread.
  native_->interrupt_waits([] {
    const py::gil_scoped_acquire held;
    return PyErr_CheckSignals() != 0;
  });
}

Communicator::~Communicator() {
  if (::getpid() != process_) {
    // The copy of a parent's: its threads do not exist here, and a lock may be held by one of them for ever.
    (void)new std::optional<hora::Communicator>(std::move(native_));
    (void)new std::list<Pending>(std::move(abandoned_));
    return;
  }
  // Handles go before their communicator, their memory after it.
  std::vector<Array> memory;
  for (Pending& pending : abandoned_)
    for (Array& array : pending.arrays) memory.push_back(std::move(array));
  abandoned_.clear();
  const py::gil_scoped_release released;
  native_.reset();
}

hora::Communicator& Communicator::native() {
  if (::getpid() != process_)
    throw Error(Status(StatusCode::invalid_argument,
                       "this communicator belongs to process " + std::to_string(process_) +
                           ", of which this one is a forked child; children that communicate start their own"));
  return *native_;
}

std::unique_ptr<std::atomic<bool>, Communicator::EndTurn> Communicator::take_turn() {
  // acquire: behind what the call before has done.
  if (turn_taken_.exchange(true, std::memory_order_acquire))
    throw Error(Status(StatusCode::invalid_argument,
                       "an ordered call inside of another one, by the handler of a signal, or beside it, by another "
                       "thread; make it afterwards, or a named one (..._async)"));
  return std::unique_ptr<std::atomic<bool>, EndTurn>(&turn_taken_);
}

template <typename Function>
Outcome Communicator::ordered(std::vector<Array>&& arrays, Function function) {
  try {
    const Outcome outcome = call([turn = take_turn(), &function](hora::Communicator& native) mutable {
      const auto ends_with_the_call = std::move(turn);
      return function(native);
    });
    // An interrupted call has ended before this one began. To let go of an array may let another thread run.
    const std::vector<Array> ended = std::exchange(left_, {});
    return outcome;
  } catch (const py::error_already_set&) {
    for (Array& array : arrays) {
      array.keep_memory();
      left_.push_back(std::move(array));
    }
    throw;
  }
}

Outcome Communicator::allreduce(py::handle source, py::handle target, ReduceOp op) {
  std::vector<Array> arrays = read_reduction(source, target);
  const auto [dtype, count] = arrays.front().reducible(op);
  return ordered(std::move(arrays),
                 [in = arrays.front().data(), out = arrays.back().data(), count = count, dtype = dtype,
                  op](hora::Communicator& native) { return native.allreduce(in, out, count, dtype, op); });
}

Outcome Communicator::broadcast(py::handle tensor, int root, const View* seen) {
  std::vector<Array> arrays = read_one(tensor);
  const auto [dtype, count] = arrays.front().movable();
  void* const data = arrays.front().data();
  if (seen == nullptr) seen = &view();
  return ordered(std::move(arrays), [=, dtype = dtype, count = count](hora::Communicator& native) {
    return native.broadcast(data, count, dtype, root, *seen);
  });
}

Outcome Communicator::allgather(py::handle source, py::handle target, const View* seen) {
  if (seen == nullptr) seen = &view();
  std::vector<Array> arrays = read_gathering(source, target, seen->size());
  const auto [dtype, count] = arrays.front().movable();
  return ordered(std::move(arrays),
                 [seen, in = arrays.front().data(), out = arrays.back().data(), dtype = dtype, count = count](
                     hora::Communicator& native) { return native.allgather(in, out, count, dtype, *seen); });
}

Outcome Communicator::barrier() {
  return ordered({}, [](hora::Communicator& native) { return native.barrier(); });
}

template <typename Function>
std::unique_ptr<Handle> Communicator::named(std::vector<Array>&& arrays, Function function) {
  abandoned_.remove_if([](const Pending& pending) { return pending.handle.done(); });
  for (Array& array : arrays) array.keep_memory();
  // Before the call, which may tell of a change of views after it: where that raises, the dropped handle keeps memory.
  auto handle = std::make_unique<Handle>(shared_from_this(), std::move(arrays));
  call([&](hora::Communicator& native) { handle->submitted(function(native)); });
  return handle;
}

std::unique_ptr<Handle> Communicator::allreduce_async(const std::string& name, py::handle source, py::handle target,
                                                      ReduceOp op) {
  std::vector<Array> arrays = read_reduction(source, target);
  const Tensor tensor = tensor_of(arrays, arrays.front().reducible(op));
  return named(std::move(arrays), [&](hora::Communicator& native) { return native.allreduce_async(name, tensor, op); });
}

std::unique_ptr<Handle> Communicator::broadcast_async(const std::string& name, py::handle tensor, int root) {
  std::vector<Array> arrays = read_one(tensor);
  const Tensor moved = tensor_of(arrays, arrays.front().movable());
  return named(std::move(arrays),
               [&](hora::Communicator& native) { return native.broadcast_async(name, moved, root); });
}

std::unique_ptr<Handle> Communicator::allgather_async(const std::string& name, py::handle source, py::handle target) {
  std::vector<Array> arrays = read_gathering(source, target, view().size());
  const Tensor moved = tensor_of(arrays, arrays.front().movable());
  return named(std::move(arrays), [&](hora::Communicator& native) { return native.allgather_async(name, moved); });
}

void Communicator::register_state(const std::string& name, py::handle array) {
  Array state(array, "the state", Access::write);
  state.keep_memory();
  native().register_state(name, std::span(static_cast<std::byte*>(state.data()), state.bytes()));
  state_.push_back(std::move(state));
}

void Communicator::step() {
  call([turn = take_turn()](hora::Communicator& native) mutable {
    const auto ends_with_the_call = std::move(turn);
    native.step();
  });
}

void Communicator::flush() {
  call([](hora::Communicator& native) { native.flush(); });
}

void Communicator::on_view_change(py::object callback) {
  callback_ = callback.is_none() ? py::object() : std::move(callback);
  std::function<void(const View&, const View&)> note;
  if (callback_) {
    note = [this](const View& before, const View& after) {
      const std::lock_guard lock(changes_mutex_);
      changes_.emplace_back(before, after);
    };
  }
  native().on_view_change(std::move(note));
}

void Communicator::tell_view_changes() {
  while (true) {
    std::list<std::pair<View, View>> next;
    {
      const std::lock_guard lock(changes_mutex_);
      if (changes_.empty()) return;
      next.splice(next.end(), changes_, changes_.begin());
    }
    // One that raises leaves those after it to the next call.
    if (const py::object callback = callback_) callback(next.front().first, next.front().second);
  }
}

void Communicator::shutdown(double timeout_s) {
  if (::getpid() != process_ || std::exchange(ended_, true)) return;
  const double seconds = std::fmin(std::fmax(0.0, timeout_s), 4e7);  // more than a year is for ever
  const auto timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1000 * seconds));
  call([timeout](hora::Communicator& native) { native.shutdown(timeout); });
  callback_ = py::object();  // it may refer to this communicator
}

void Communicator::keep(Pending pending) {
  if (::getpid() != process_) {
    (void)new Pending(std::move(pending));  // see ~Communicator()
    return;
  }
  if (pending.handle.done()) return;
  abandoned_.push_back(std::move(pending));
}

}  // namespace hora::python
