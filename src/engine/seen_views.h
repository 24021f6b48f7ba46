// The views of a process as its callers see them. Views are installed when the membership decides; a caller sees one
// only when a call of its own returns in it, so that all members see a view change between the same two calls.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "base/mutex.h"
#include "hora/types.hpp"
#include "hora/view.hpp"

namespace hora::engine {

// Thread safe.
class SeenViews {
 public:
  using Callback = std::function<void(const View& before, const View& after)>;

  // What a callback throws would leave this member in another view than the others: it ends the process.
  static void tell(const Callback& callback, const View& before, const View& after) noexcept {
    if (callback) callback(before, after);
  }

  explicit SeenViews(const View& first) : installed_{first}, seen_(&installed_.front()) {}

  // The one that the last call returned in. The reference stays valid.
  [[nodiscard]] const View& view() const noexcept { return *seen_.load(std::memory_order_acquire); }
  void install(const View& view);
  [[nodiscard]] const View& installed() const;  // the last one
  // A call returns in the view `epoch`: callers see it from now on, or the last one before it that is installed.
  void adopt(Epoch epoch);
  // Replaces the callback before.
  void on_change(Callback callback);
  // Whether `view` is one of this chain: it has been installed here, or has passed before.
  [[nodiscard]] bool knows(const View& view) const;
  // The first installed view after `epoch` for which `holds`; null where there is none.
  template <typename Predicate>
  [[nodiscard]] const View* first_after(Epoch epoch, const Predicate& holds) const {
    const MutexLock lock(mutex_);
    for (const View& view : installed_)
      if (view.epoch > epoch && holds(view)) return &view;
    return nullptr;
  }

 private:
  mutable Mutex mutex_;
  std::deque<View> installed_ GUARDED_BY(mutex_);  // all of them: callers may hold references to any
  std::atomic<const View*> seen_;                  // changed under the lock
  Callback callback_ GUARDED_BY(mutex_);
};

}  // namespace hora::engine
