// Makes and aborts NCCL communicators in the background: both can take long, and operations go on meanwhile.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "cuda/gpu.h"
#include "cuda/nccl.h"

namespace hora::cuda {

// Names a communicator, the same one on every member; greater ones are later. See Lane.
using Generation = std::int64_t;

struct Standing {
  Generation generation = 0;
  CommunicatorHandle handle = nullptr;
};

class Builder {
 public:
  // The references outlive it. `news` is called, on its thread, when standing() has changed.
  Builder(const Nccl& nccl, const Gpu& gpu, std::function<void()> news, const Log& log);
  // Aborts whatever is left, and waits for that.
  ~Builder();
  Builder(const Builder&) = delete;
  Builder& operator=(const Builder&) = delete;

  // Nothing stands and nothing is being built.
  void build(Generation generation, const NcclUniqueId& id, int size, int rank);
  // The communicator that stands or is being built is no longer used; returns at once.
  void abort();
  [[nodiscard]] std::optional<Standing> standing();

 private:
  struct Order {
    Generation generation = 0;
    NcclUniqueId id;
    int size = 0;
    int rank = 0;
  };
  void run();
  void carry_out(const Order& order) REQUIRES(mutex_);

  const Nccl& nccl_;
  const Gpu& gpu_;
  const std::function<void()> news_;
  const Log& log_;
  Mutex mutex_;
  std::condition_variable_any changed_;
  std::optional<Order> order_ GUARDED_BY(mutex_);
  std::optional<Standing> standing_ GUARDED_BY(mutex_);
  std::vector<CommunicatorHandle> doomed_ GUARDED_BY(mutex_);
  std::uint64_t aborts_ GUARDED_BY(mutex_) = 0;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace hora::cuda
