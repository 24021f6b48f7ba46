// The state behind the emulated driver and NCCL: one lock, one condition, streams with a thread each.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "emulated_gpu.h"

namespace hora::emulated {

struct Machine {
  std::mutex mutex;                 // guards all below, and device memory while a word of it is looked at
  std::condition_variable changed;  // after every task of every stream
  Live live;
  std::set<void*> device_blocks;
  bool fail_allocation = false;
  // Ranks with a fault, and how many communicators there had been when it came: later ones do not have it.
  std::map<int, std::uint64_t> hanging, lossy, failing;
  std::uint64_t communicators_made = 0;
  std::uint64_t nccl_operations = 0;
};
Machine& machine();

class Stream {
 public:
  Stream();
  ~Stream();  // ends what was enqueued
  void enqueue(std::function<void()> task);
  void synchronize();

 private:
  void run();
  std::deque<std::function<void()>> tasks_;
  bool busy_ = false;
  bool ending_ = false;
  std::thread thread_;
};

struct Event {
  std::uint64_t recorded = 0;
  std::uint64_t reached = 0;
};

// In a task: waits until `holds`, with the machine's lock.
template <typename Condition>
void wait_for(const Condition& holds) {
  std::unique_lock lock(machine().mutex);
  machine().changed.wait(lock, holds);
}

void fill_nccl(cuda::Nccl& nccl);

}  // namespace hora::emulated
