#include "engine/seen_views.h"

namespace hora::engine {

namespace {

// What a callback throws would leave this member in another view than the others: it ends the process.
void tell(const SeenViews::Callback& callback, const View& before, const View& after) noexcept {
  callback(before, after);
}

}  // namespace

void SeenViews::install(const View& view) {
  const MutexLock lock(mutex_);
  installed_.push_back(view);
}

const View& SeenViews::installed() const {
  const MutexLock lock(mutex_);
  return installed_.back();
}

void SeenViews::adopt(Epoch epoch) {
  if (epoch <= view().epoch) return;
  const View* before = nullptr;
  const View* after = nullptr;
  Callback callback;
  {
    const MutexLock lock(mutex_);
    before = after = seen_.load(std::memory_order_relaxed);  // relaxed: changed under this lock only
    for (const View& installed : installed_)
      if (installed.epoch > after->epoch && installed.epoch <= epoch) after = &installed;
    seen_.store(after, std::memory_order_release);  // release: the view behind it
    callback = callback_;
  }
  if (callback && after != before) tell(callback, *before, *after);
}

void SeenViews::on_change(Callback callback) {
  const MutexLock lock(mutex_);
  callback_ = std::move(callback);
}

}  // namespace hora::engine
