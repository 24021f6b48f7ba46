#include "handle.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "communicator.h"

namespace hora::python {

namespace py = pybind11;
using Seconds = std::chrono::duration<double>;
using SteadyClock = std::chrono::steady_clock;

Handle::Handle(std::shared_ptr<Communicator> communicator, std::vector<Array> arrays)
    : communicator_(std::move(communicator)), pending_{{}, std::move(arrays)} {}

Handle::~Handle() {
  communicator_->keep(std::move(pending_));
}

Outcome Handle::wait(std::optional<double> timeout) {
  std::optional<SteadyClock::time_point> deadline;
  // More than a year is for ever.
  if (timeout && *timeout < 4e7)
    deadline = SteadyClock::now() + std::chrono::ceil<SteadyClock::duration>(Seconds(std::max(0.0, *timeout)));
  while (!done()) {
    const SteadyClock::duration left = deadline ? *deadline - SteadyClock::now() : kSignalsEvery;
    if (deadline && left <= SteadyClock::duration::zero()) {
      throw Error(Status(StatusCode::timed_out, "wait: the operation has not ended within " + std::to_string(*timeout) +
                                                    " s; it goes on, wait() again"));
    }
    communicator_->call([&](hora::Communicator&) {
      (void)pending_.handle.wait_for(std::min<SteadyClock::duration>(left, kSignalsEvery));
    });
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }
  const Outcome outcome = communicator_->call([&](hora::Communicator&) { return pending_.handle.wait(); });
  // Another thread may wait for this handle as well, and to let go of an array may let it run.
  const std::vector<Array> ended = std::exchange(pending_.arrays, {});
  return outcome;
}

}  // namespace hora::python
