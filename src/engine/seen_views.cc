#include "engine/seen_views.h"

namespace hora::engine {

void SeenViews::install(const View& view) {
  const MutexLock lock(mutex_);
  installed_.push_back(view);
}

const View& SeenViews::installed() const {
  const MutexLock lock(mutex_);
  return installed_.back();
}

bool SeenViews::knows(const View& view) const {
  const MutexLock lock(mutex_);
  for (const View& installed : installed_)
    if (installed.epoch == view.epoch) return installed.members == view.members;
  return view.epoch < installed_.front().epoch;
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
  if (after != before) tell(callback, *before, *after);
}

void SeenViews::on_change(Callback callback) {
  const MutexLock lock(mutex_);
  callback_ = std::move(callback);
}

}  // namespace hora::engine
