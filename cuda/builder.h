// Makes, dooms and frees NCCL communicators in the background: all of it can take long, and operations go on meanwhile.
//
// To doom one is to raise its abort flag, which every copy-out looks at, and then to end what is under way on it. That
// needs no lock that a thread can hold inside of the driver, and not the lane's thread: that one may itself be waiting
// for room on a stream that NCCL keeps busy. Freeing waits for all streams of the device, so it comes last: where NCCL
// can end operations without freeing (ncclCommRevoke), once streams of callers have passed, see let_go().
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/time.h"
#include "cuda/gpu.h"
#include "cuda/nccl.h"
#include "hora/types.hpp"
#include "interfaces/clock.h"

namespace hora::cuda {

// Names a communicator, the same one on every member: the view, and the number in it. Greater ones are later; 0 is
// none.
using Generation = std::int64_t;
inline constexpr int kGenerationBits = 20;  // of communicators of one view
constexpr Generation first_generation(Epoch epoch) noexcept {
  return static_cast<Generation>(epoch.value) << kGenerationBits | 1;
}

struct Standing {
  Generation generation = 0;
  CommunicatorHandle handle = nullptr;
  std::uint32_t* abort_flag = nullptr;
};

class Builder {
 public:
  // The references outlive it. `news` is called, on its thread, when standing() or is_clear() has changed.
  Builder(const Nccl& nccl, const Gpu& gpu, std::function<void()> news, const Clock& clock, const Log& log);
  // Frees whatever is left, and waits for that.
  ~Builder();
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  // Once nothing of earlier ones is left.
  void build(Generation generation, const NcclUniqueId& id, int size, int rank);
  [[nodiscard]] std::optional<Standing> standing();
  // Thread safe, returns at once: no communicator up to `last` is used any more, whether it stands, is being built or
  // was not heard of yet. What is under way on it ends.
  void doom(Generation last);
  [[nodiscard]] bool is_doomed(Generation generation) const noexcept {
    return generation <= doomed_through_.load(std::memory_order_acquire);  // acquire: what came before the verdict
  }
  // No stream waits any more for what was on doomed communicators: they can be freed.
  void let_go();
  // Nothing is left of doomed communicators.
  [[nodiscard]] bool is_clear() const noexcept { return left_.load(std::memory_order_acquire) == 0; }

  // While it exists, NCCL may be called with the communicator. Empty once that is doomed.
  class Use {
   public:
    Use(Builder& builder, Generation generation);
    ~Use();
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;
    [[nodiscard]] explicit operator bool() const noexcept { return standing_.has_value(); }
    [[nodiscard]] const Standing& operator*() const noexcept { return *standing_; }

   private:
    Builder& builder_;
    std::optional<Standing> standing_;
  };

 private:
  struct Order {
    Generation generation = 0;
    NcclUniqueId id;
    int size = 0;
    int rank = 0;
  };
  struct Doomed {
    CommunicatorHandle handle = nullptr;
    TimePoint since;
    bool revoked = false;
  };
  void run();
  bool free_doomed() REQUIRES(mutex_);
  void carry_out(const Order& order) REQUIRES(mutex_);

  const Nccl& nccl_;
  const Gpu& gpu_;
  const std::function<void()> news_;
  const Clock& clock_;
  const Log& log_;
  std::atomic<Generation> doomed_through_{0};
  std::atomic<std::size_t> left_{0};  // as many as doomed_, for is_clear()
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Order> order_ GUARDED_BY(mutex_);
  std::optional<Standing> standing_ GUARDED_BY(mutex_);
  std::vector<Doomed> doomed_ GUARDED_BY(mutex_);
  std::size_t flags_used_ GUARDED_BY(mutex_) = 0;
  int uses_ GUARDED_BY(mutex_) = 0;
  bool may_free_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace hora::cuda
