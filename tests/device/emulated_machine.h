// The state behind the emulated driver and NCCL: one lock, one condition, and a thread for each hardware queue.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

#include "emulated_gpu.h"

namespace hora::emulated {

class Queue;
struct Stream;

inline constexpr std::size_t kQueues = 4;  // for streams without a priority

// One device; its address is the handle of its context.
struct Device {
  std::array<std::weak_ptr<Queue>, kQueues> queues;
  std::size_t streams_made = 0;
  std::set<Stream*> streams;
  bool locked = false;  // somebody frees memory, and waits for all streams
  bool lost = false;
  int captures = 0;
};

struct Machine {
  std::mutex mutex;                 // guards all below, and device memory while a word of it is looked at
  std::condition_variable changed;  // after every task of every stream
  std::array<Device, 8> devices;
  Live live;
  std::set<void*> device_blocks;
  std::set<void*> communicators;
  int threads_at_full_streams = 0;
  bool fail_allocation = false;
  bool fail_wait = false;
  std::size_t allocation_most = SIZE_MAX;
  std::size_t blocks_most = SIZE_MAX;    // of device memory, in all
  std::size_t commands_most = SIZE_MAX;  // on a stream, then enqueueing waits
  // Ranks with a fault, and how many communicators there had been when it came: later ones do not have it.
  std::map<int, std::uint64_t> hanging, lossy, failing;
  std::set<int> refusing;  // ranks whose next call of a collective fails
  std::uint64_t communicators_made = 0;
  std::uint64_t nccl_operations = 0;
};
Machine& machine();

// In a task: waits until `holds`, with the machine's lock, or until the device is lost.
template <typename Condition>
void wait_for(const Device& device, const Condition& holds) {
  std::unique_lock lock(machine().mutex);
  machine().changed.wait(lock, [&] { return device.lost || holds(); });
}

// What runs the tasks of one stream or of several, in the order in which they were enqueued: a task that waits holds up
// those of the other streams behind it.
class Queue {
 public:
  explicit Queue(Device& device) : device_(device), thread_([this] { run(); }) {}
  ~Queue();
  // With the machine's lock.
  void add(Stream& stream, std::function<void()> task) { tasks_.emplace_back(&stream, std::move(task)); }

 private:
  void run();
  Device& device_;
  std::deque<std::pair<Stream*, std::function<void()>>> tasks_;
  bool ending_ = false;
  std::thread thread_;
};

struct Stream {
  Device& device;
  std::shared_ptr<Queue> queue;
  std::size_t pending = 0;
  bool capturing = false;

  void enqueue(std::function<void()> task);
};

struct Event {
  Device& device;
  std::uint64_t recorded = 0;
  std::uint64_t reached = 0;
};

// Whose context is current in this thread.
Device* current_device();

// Waits until nothing is on any stream of the device; meanwhile whoever takes or frees something there waits too.
void wait_for_idle(Device& device, std::unique_lock<std::mutex>& lock);

void fill_nccl(cuda::Nccl& nccl, bool can_revoke);

}  // namespace hora::emulated
