// The Handle of Python: a pending operation, and the memory that it uses until it has ended.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "array.h"
#include "hora/hora.hpp"

namespace hora::python {

class Communicator;

// A C++ handle with the arrays that its operation reads and writes.
struct Pending {
  hora::Handle handle;
  std::vector<Array> arrays;
};

class Handle {
 public:
  // Of an operation that will use `arrays`, and that is not submitted() yet.
  Handle(std::shared_ptr<Communicator> communicator, std::vector<Array> arrays);
  // An operation that has not ended goes on; the communicator keeps its memory.
  ~Handle();
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  void submitted(hora::Handle handle) noexcept { pending_.handle = std::move(handle); }
  [[nodiscard]] bool done() const noexcept { return pending_.handle.done(); }
  // Seconds; nullopt: without a limit. TimedOutError: the operation goes on unchanged.
  Outcome wait(std::optional<double> timeout);

 private:
  std::shared_ptr<Communicator> communicator_;
  Pending pending_;
};

}  // namespace hora::python
