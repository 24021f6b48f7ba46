#include "cuda/builder.h"

#include <pthread.h>

#include <chrono>
#include <utility>

namespace hora::cuda {

namespace {
// NCCL has no way to tell that a communicator has come to stand; it is asked this often while one is being built.
constexpr std::chrono::milliseconds kLookAgain{2};
}  // namespace

Builder::Builder(const Nccl& nccl, const Gpu& gpu, std::function<void()> news, const Log& log)
    : nccl_(nccl), gpu_(gpu), news_(std::move(news)), log_(log), thread_([this] {
        pthread_setname_np(pthread_self(), "hora-nccl");
        run();
      }) {}

Builder::~Builder() {
  abort();
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void Builder::build(Generation generation, const NcclUniqueId& id, int size, int rank) {
  const MutexLock lock(mutex_);
  order_ = Order{generation, id, size, rank};
  changed_.notify_all();
}

void Builder::abort() {
  const MutexLock lock(mutex_);
  ++aborts_;
  order_.reset();
  if (standing_) doomed_.push_back(std::exchange(standing_, std::nullopt)->handle);
  changed_.notify_all();
}

std::optional<Standing> Builder::standing() {
  const MutexLock lock(mutex_);
  return standing_;
}

void Builder::run() {
  if (const Status status = gpu_.enter(); !status.ok()) log_(LogLevel::error, "nccl", "{}", status.message());
  const MutexLock lock(mutex_);
  while (true) {
    if (!doomed_.empty()) {
      const CommunicatorHandle handle = doomed_.back();
      doomed_.pop_back();
      mutex_.unlock();
      nccl_.communicator_abort(handle);
      mutex_.lock();
    } else if (order_) {
      carry_out(*std::exchange(order_, std::nullopt));
    } else if (stopping_) {
      return;
    } else {
      changed_.wait(mutex_);
    }
  }
}

void Builder::carry_out(const Order& order) {
  const std::uint64_t aborts = aborts_;
  mutex_.unlock();
  NcclConfig config;
  Standing made{order.generation, nullptr};
  NcclCode code = nccl_.communicator_create(&made.handle, order.size, order.id, order.rank, &config);
  mutex_.lock();
  const bool has_handle = made.handle != nullptr && (code == kNcclSuccess || code == kNcclInProgress);
  if (has_handle) code = kNcclInProgress;
  while (code == kNcclInProgress && aborts == aborts_) {
    mutex_.unlock();
    if (nccl_.communicator_state(made.handle, &code) != kNcclSuccess) code = kNcclInternalError;
    mutex_.lock();
    if (code == kNcclInProgress && aborts == aborts_) changed_.wait_for(mutex_, kLookAgain);
  }
  if (aborts != aborts_ || code != kNcclSuccess) {
    if (has_handle) doomed_.push_back(made.handle);
    if (aborts == aborts_)
      log_(LogLevel::warn, "nccl", "no communicator of {} ranks: {}; device memory goes through the host", order.size,
           nccl_.error_text(code));
    return;
  }
  standing_ = made;
  mutex_.unlock();
  news_();
  mutex_.lock();
}

}  // namespace hora::cuda
