// Ranks as threads, each with a session, a stream and buffers of a device, real or emulated.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "conformance/workload.h"
#include "cuda/runtime.h"
#include "unit/engine/job_of_threads.h"

namespace hora::device_test {

using Runtimes = std::function<std::shared_ptr<const cuda::Runtime>(int rank)>;

// Memory of the device. It is freed at the end of the job: a driver that frees memory waits for the whole device, so
// for other ranks on it, which may need this one.
class Buffer {
 public:
  Buffer(const cuda::Driver& driver, std::size_t bytes);
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  [[nodiscard]] std::byte* data() const { return reinterpret_cast<std::byte*>(address_); }

 private:
  cuda::DeviceAddress address_ = 0;
};

// One rank. Lives on its thread.
class Player {
 public:
  Player(std::unique_ptr<engine::Session> session, std::shared_ptr<const cuda::Runtime> runtime, int rank);
  // Without leave(): dies.
  ~Player();

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] engine::Session& session() { return *session_; }
  [[nodiscard]] engine::DeviceFront& device() { return session_->device(stream()); }
  [[nodiscard]] Stream stream() const { return {stream_}; }
  [[nodiscard]] const cuda::Driver& driver() const { return runtime_->driver; }

  // In the order of the stream, through pinned memory: what is not pinned the driver copies while the caller waits.
  void write(const Buffer& to, std::span<const std::byte> bytes);
  // What was read is there after synchronize().
  void read(const Buffer& from, std::span<std::byte> bytes);
  void synchronize();

  // An ordered call, in place; the handle is the caller's to end().
  engine::Work* allreduce(const Buffer& buffer, std::uint64_t count, DataType dtype, ReduceOp op);
  // Waits for the device, and gives the handle back.
  Outcome end(engine::Work* work, Status* error = nullptr);
  // Small sums, until the communicator stands here after a call that all ranks made. False when it never did.
  bool reach_communicator();
  void leave();
  void die() { session_.reset(); }

 private:
  std::shared_ptr<const cuda::Runtime> runtime_;
  std::unique_ptr<engine::Session> session_;
  [[nodiscard]] std::byte* take_pinned(std::size_t bytes);

  int rank_;
  cuda::StreamHandle stream_ = nullptr;
  std::byte* pinned_ = nullptr;
  std::size_t pinned_used_ = 0;
  std::vector<std::pair<std::byte*, std::span<std::byte>>> reads_;  // from pinned memory, at the next synchronize()
};

// Counts what ranks see wrong: Catch2's assertions are for one thread.
struct Checks {
  std::atomic<int> wrong{0};
  void that(bool holds, const char* what = "", int line = __builtin_LINE());
};

// Runs `body` on a thread for each rank. A rank whose body returns without leave(), or throws, dies then; what one of
// them threw is thrown at the end.
void run_job(int size, const Runtimes& runtimes, const std::function<void(Player&)>& body,
             const std::function<void(Options&)>& adjust = {});

}  // namespace hora::device_test
