// The Communicator of Python: hora::Communicator with arrays for pointers, without the GIL while it works or waits.
#pragma once

#include <pybind11/pybind11.h>
#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "array.h"
#include "handle.h"
#include "hora/hora.hpp"

namespace hora::python {

// How long a wait may go without a look at Python's signals, Ctrl-C above all. A signal also ends the sleep of the
// thread that it reaches, so this is the worst case.
inline constexpr std::chrono::milliseconds kSignalsEvery(500);

class Communicator : public std::enable_shared_from_this<Communicator> {
 public:
  static std::shared_ptr<Communicator> init(const pybind11::kwargs& keywords);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // In a forked child as well, as they were when it was forked.
  [[nodiscard]] const View& view() const { return native_->view(); }
  [[nodiscard]] int rank() const { return native_->rank(); }
  [[nodiscard]] int local_rank() const { return native_->local_rank(); }
  [[nodiscard]] int local_size() const { return native_->local_size(); }
  [[nodiscard]] bool observing() const { return native_->observing(); }

  // A `target` of None: in place.
  Outcome allreduce(pybind11::handle source, pybind11::handle target, ReduceOp op);
  // A null `seen`: the view of the moment.
  Outcome broadcast(pybind11::handle tensor, int root, const View* seen);
  Outcome allgather(pybind11::handle source, pybind11::handle target, const View* seen);
  Outcome barrier();
  std::unique_ptr<Handle> allreduce_async(const std::string& name, pybind11::handle source, pybind11::handle target,
                                          ReduceOp op);
  std::unique_ptr<Handle> broadcast_async(const std::string& name, pybind11::handle tensor, int root);
  std::unique_ptr<Handle> allgather_async(const std::string& name, pybind11::handle source, pybind11::handle target);

  void register_state(const std::string& name, pybind11::handle array);
  void step();
  void flush();
  void on_view_change(pybind11::object callback);
  void shutdown(double timeout_s);

  // Runs `function(hora::Communicator&)` without the GIL. Then, or after it has thrown, tells Python of a new view.
  template <typename Function>
  auto call(Function function);
  // Of a handle that Python has dropped: its memory stays until its operation has ended.
  void keep(Pending pending);

 private:
  // Gives the turn back.
  struct EndTurn {
    void operator()(std::atomic<bool>* taken) const noexcept { taken->store(false, std::memory_order_release); }
  };

  explicit Communicator(hora::Communicator native);
  [[nodiscard]] hora::Communicator& native();
  // Of ordered calls, of which there is one at a time. Throws Error where another one is under way.
  [[nodiscard]] std::unique_ptr<std::atomic<bool>, EndTurn> take_turn();
  // `arrays` are what `function` reads and writes.
  template <typename Function>
  Outcome ordered(std::vector<Array>&& arrays, Function function);
  template <typename Function>
  std::unique_ptr<Handle> named(std::vector<Array>&& arrays, Function function);
  void tell_view_changes();

  std::optional<hora::Communicator> native_;
  std::atomic<bool> turn_taken_{false};
  const pid_t process_;  // whose communicator it is: a forked child must not touch it
  bool ended_ = false;
  std::vector<Array> state_;      // what register_state() was given
  std::vector<Array> left_;       // of the ordered call that Ctrl-C has interrupted
  std::list<Pending> abandoned_;  // not ended, and nobody waits
  pybind11::object callback_;
  std::mutex changes_mutex_;
  std::list<std::pair<View, View>> changes_;  // that callback_ has not been told; guarded by changes_mutex_
};

template <typename Function>
auto Communicator::call(Function function) {
  hora::Communicator& native = this->native();
  std::exception_ptr failure;
  using Result = decltype(function(native));
  [[maybe_unused]] std::conditional_t<std::is_void_v<Result>, bool, std::optional<Result>> result{};
  {
    const pybind11::gil_scoped_release released;
    try {
      if constexpr (std::is_void_v<Result>)
        function(native);
      else
        result.emplace(function(native));
    } catch (...) {
      failure = std::current_exception();
    }
  }
  if (PyErr_Occurred() != nullptr) throw pybind11::error_already_set();  // Ctrl-C, in an ordered call
  tell_view_changes();
  if (failure) std::rethrow_exception(failure);
  if constexpr (!std::is_void_v<Result>) return std::move(*result);
}

}  // namespace hora::python
