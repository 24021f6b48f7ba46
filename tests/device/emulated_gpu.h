// A CUDA driver and an NCCL without a GPU: streams are queues with threads, device memory is memory of the host,
// kernels run their bodies, and communicators join threads of this process. Behind the tables of the real ones.
//
// Of what real ones punish and a plain imitation would forgive, this one punishes: an event waits for the record that
// was last made at the call; fresh memory and the result of an aborted reduction hold rubbish; streams without a
// priority share four queues; a stream takes only so many commands; what frees memory, the end of an abort too, waits
// for all streams of the device, and whoever takes memory for that; contexts are current in a thread and belong to a
// device; a communicator connects with its first operation, and nobody uses one
// that was freed; a device can be lost; a thread that captures forbids others
// what is slow. It does not know how long anything takes, what caches hold, or what a graph is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda/runtime.h"

namespace hora::emulated {

// The tables of the one emulated machine of this process. `has_nccl`: as of a rank that has it.
std::shared_ptr<const cuda::Runtime> runtime(bool has_nccl = true);
// The same for every rank, as a job of tests asks for them.
std::shared_ptr<const cuda::Runtime> with_nccl(int rank);
std::shared_ptr<const cuda::Runtime> with_old_nccl(int rank);  // which can only abort
std::shared_ptr<const cuda::Runtime> without_nccl(int rank);

// What exists now; all zero when everything has been given back.
struct Live {
  int streams = 0;
  int events = 0;
  int device_blocks = 0;
  int pinned_blocks = 0;
  int modules = 0;
  int communicators = 0;
  friend bool operator==(const Live&, const Live&) = default;
};
Live live();

// Reductions and broadcasts that NCCL was asked for, by all ranks together; and communicators.
std::uint64_t nccl_operations();
std::uint64_t communicators_made();

// Faults, by the rank that a communicator was made with. Those that are made later do not have them.
void let_rank_hang(int rank);         // what it enqueues from now on never arrives at the others
void let_result_be_lost(int rank);    // its operations give their input to the others, and do not end here
void let_rank_fail(int rank);         // its communicator has an asynchronous error, and its operations hang
void let_call_fail(int rank);         // its next call of a collective
void let_wait_fail();                 // the next wait of a stream for a word
void let_allocation_fail();           // the next one of device memory
void let_device_be_lost(int device);  // until no stream is left there

void limit_allocations(std::size_t bytes);  // of device memory, each
void limit_blocks(std::size_t blocks);      // of device memory, in all
void limit_streams(std::size_t commands);   // on each, then whoever enqueues more waits
void lift_limits();
int threads_at_full_streams();

// A stream captures a graph while it exists, so that no thread may be slow that has not said that it need not care.
class Capture {
 public:
  explicit Capture(void* stream);
  ~Capture();

 private:
  void* stream_;
};

// A gate in a stream: what was enqueued behind it waits until open().
class Gate {
 public:
  explicit Gate(void* stream);
  ~Gate();
  void open();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace hora::emulated
