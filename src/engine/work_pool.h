// The works of one front, used again and again: a submission allocates only when more are in flight than ever before.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "engine/front.h"
#include "engine/work.h"

namespace hora::engine {

// Thread safe. W is Work, or derived from it and made by W(Owner&).
template <typename W, typename Owner>
class WorkPool {
 public:
  // `owner` outlives the pool.
  explicit WorkPool(Owner& owner) noexcept : owner_(owner) {}

  // One that nobody else refers to. `references`: how many will be given back by release().
  W* take(int references) {
    const MutexLock lock(mutex_);
    if (free_.empty()) {
      works_.push_back(std::make_unique<W>(owner_));
      free_.reserve(works_.size());  // release() never allocates
      free_.push_back(works_.back().get());
    }
    W* work = free_.back();
    free_.pop_back();
    work->reset();
    work->references.store(references, std::memory_order_relaxed);  // relaxed: nobody else has it
    return work;
  }

  void release(W* work) noexcept {
    // acq_rel: the last of them sees all that the others did with it.
    if (work->references.fetch_sub(1, std::memory_order_acq_rel) > 1) return;
    const MutexLock lock(mutex_);
    free_.push_back(work);
  }

 private:
  Owner& owner_;
  Mutex mutex_;
  std::vector<std::unique_ptr<W>> works_ GUARDED_BY(mutex_);
  std::vector<W*> free_ GUARDED_BY(mutex_);
};

}  // namespace hora::engine
