// What a communicator's calls go to: the engine, or, in a newcomer that has not entered the job yet, the observer.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/time.h"
#include "engine/seen_views.h"
#include "hora/hora.hpp"
#include "interfaces/operation.h"

namespace hora::engine {

class Work;

// Where a work came from. Called by the application's threads.
class WorkOwner {
 public:
  virtual ~WorkOwner() = default;

  // False when `timeout` passed first. Does not throw for a failed work.
  virtual bool wait(Work& work, std::optional<Duration> timeout) = 0;
  // Gives back one of the work's references.
  virtual void release(Work* work) noexcept = 0;
  // What is enqueued on `stream` from now on sees the result of `work`, which is in device memory. Throws Error.
  virtual void order(Work& work, Stream stream) = 0;
};

// Called by the application's threads. All but release() and the getters throw Error.
class Front : public WorkOwner {
 public:
  // One call at a time. `seen`: the view of which the caller counts ranks and sizes, which outlives the call.
  virtual Outcome run_ordered(const Signature& signature, const Extent& extent, const View& seen) = 0;
  Outcome run_ordered(const Signature& signature, const Extent& extent) {
    return run_ordered(signature, extent, view());
  }
  // The caller gives the result back by release(). `attended`: the caller waits right away, so that no other thread
  // need be woken.
  virtual Work* submit(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape,
                       const Extent& extent, bool attended) = 0;
  void order(Work&, Stream) override {
    throw Error(Status(StatusCode::invalid_argument, "order() is for results in device memory; use wait()"));
  }
  virtual void flush() = 0;
  virtual void on_view_change(SeenViews::Callback callback) = 0;
  // The view that the last call returned in, and this process's rank there.
  [[nodiscard]] virtual const View& view() const noexcept = 0;
  [[nodiscard]] virtual Rank rank() const noexcept = 0;
};

}  // namespace hora::engine
