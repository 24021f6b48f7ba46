#include "cuda/builder.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace hora::cuda {

namespace {
// NCCL has no way to tell that a communicator has come to stand; it is asked this often while one is being built.
constexpr std::chrono::milliseconds kLookAgain{2};
// A thread that stays inside of NCCL for longer waits for what only the end of the communicator brings.
constexpr std::chrono::milliseconds kLongestUse{500};
// What comes to the device after a communicator was revoked may hang again, and an abort ends that.
constexpr std::chrono::seconds kLongestRevoked{2};
}  // namespace

Builder::Builder(const Nccl& nccl, const Gpu& gpu, std::function<void()> news, const Clock& clock, const Log& log)
    : nccl_(nccl), gpu_(gpu), news_(std::move(news)), clock_(clock), log_(log), thread_([this] {
        pthread_setname_np(pthread_self(), "hora-nccl");
        run();
      }) {}

Builder::~Builder() {
  doom(std::numeric_limits<Generation>::max());
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Builder::build(Generation generation, const NcclUniqueId& id, int size, int rank) {
  const MutexLock lock(mutex_);
  if (!is_doomed(generation)) order_ = Order{generation, id, size, rank};
  changed_.notify_all();
}

void Builder::doom(Generation last) {
  const MutexLock lock(mutex_);
  if (is_doomed(last)) return;
  doomed_through_.store(last, std::memory_order_release);  // release: see is_doomed()
  if (order_ && is_doomed(order_->generation)) order_.reset();
  if (standing_ && is_doomed(standing_->generation)) {
    // release: before anything of the communicator ends because of it.
    std::atomic_ref(*standing_->abort_flag).store(1, std::memory_order_release);
    doomed_.push_back({std::exchange(standing_, std::nullopt)->handle, clock_.now()});
    left_.store(doomed_.size(), std::memory_order_release);
    may_free_ = false;
  }
  changed_.notify_all();
}

void Builder::let_go() {
  const MutexLock lock(mutex_);
  may_free_ = true;
  changed_.notify_all();
}

std::optional<Standing> Builder::standing() {
  const MutexLock lock(mutex_);
  return standing_;
}

Builder::Use::Use(Builder& builder, Generation generation) : builder_(builder) {
  const MutexLock lock(builder_.mutex_);
  if (!builder_.standing_ || builder_.standing_->generation != generation) return;
  standing_ = builder_.standing_;
  ++builder_.uses_;
}

Builder::Use::~Use() {
  if (!standing_) return;
  const MutexLock lock(builder_.mutex_);
  --builder_.uses_;
  builder_.changed_.notify_all();
}

void Builder::run() {
  if (const Status status = gpu_.enter(); !status.ok()) log_(LogLevel::error, "nccl", "{}", status.message());
  const MutexLock lock(mutex_);
  while (true) {
    if (!doomed_.empty()) {
      if (!free_doomed()) changed_.wait_for(mutex_, kLookAgain);
    } else if (order_) {
      carry_out(*std::exchange(order_, std::nullopt));
    } else if (stopping_) {
      return;
    } else {
      changed_.wait(mutex_);
    }
  }
}

// One step. False: there is nothing to do now.
bool Builder::free_doomed() {
  Doomed& oldest = doomed_.front();
  const Duration age = clock_.now() - oldest.since;
  if (uses_ > 0 && age < kLongestUse) return false;
  const CommunicatorHandle handle = oldest.handle;
  if (nccl_.communicator_revoke != nullptr && !std::exchange(oldest.revoked, true)) {
    mutex_.unlock();
    (void)nccl_.communicator_revoke(handle, 0);  // where it fails, the abort does it, later
    mutex_.lock();
    return true;
  }
  if (nccl_.communicator_revoke != nullptr && !may_free_ && !stopping_ && age < kLongestRevoked) return false;
  mutex_.unlock();
  (void)nccl_.communicator_abort(handle);
  mutex_.lock();
  doomed_.erase(doomed_.begin());                          // others come behind it
  left_.store(doomed_.size(), std::memory_order_release);  // release: see is_clear()
  mutex_.unlock();
  news_();
  mutex_.lock();
  return true;
}

void Builder::carry_out(const Order& order) {
  // A flag comes round again after thousands of communicators, since copy-outs of an older one may still come.
  std::uint32_t* const flag = &gpu_.abort_flags()[flags_used_++ % Gpu::kAbortFlags];
  std::atomic_ref(*flag).store(0, std::memory_order_relaxed);  // relaxed: no copy-out has it yet
  mutex_.unlock();
  NcclConfig config;
  Standing made{order.generation, nullptr, flag};
  NcclCode code = nccl_.communicator_create(&made.handle, order.size, order.id, order.rank, &config);
  mutex_.lock();
  const bool has_handle = made.handle != nullptr && (code == kNcclSuccess || code == kNcclInProgress);
  if (has_handle) code = kNcclInProgress;
  while (code == kNcclInProgress && !is_doomed(order.generation)) {
    mutex_.unlock();
    if (nccl_.communicator_state(made.handle, &code) != kNcclSuccess) code = kNcclInternalError;
    mutex_.lock();
    if (code == kNcclInProgress && !is_doomed(order.generation)) changed_.wait_for(mutex_, kLookAgain);
  }
  if (is_doomed(order.generation) || code != kNcclSuccess) {
    if (!is_doomed(order.generation))
      log_(LogLevel::warn, "nccl", "no communicator of {} ranks: {}; device memory goes through the host", order.size,
           nccl_.error_text(code));
    if (!has_handle) return;
    mutex_.unlock();
    (void)nccl_.communicator_abort(made.handle);  // nothing of it is on a stream
    mutex_.lock();
    return;
  }
  standing_ = made;
  mutex_.unlock();
  news_();
  mutex_.lock();
}

}  // namespace hora::cuda
