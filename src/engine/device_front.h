// Calls with device memory: between their handles and the device lane.
#pragma once

#include <memory>
#include <string_view>

#include "cuda/lane.h"
#include "engine/engine.h"
#include "engine/front.h"
#include "engine/work.h"
#include "engine/work_pool.h"

namespace hora::engine {

// Beside the engine, which does everything with host memory.
class DeviceFront final : public WorkOwner {
 public:
  // The references outlive it. All tensors are in the context of `stream`.
  static Result<std::unique_ptr<DeviceFront>> start(std::shared_ptr<const cuda::Runtime> runtime, Stream stream,
                                                    Engine& engine, MemberId self, const cuda::LaneOptions& options,
                                                    const Clock& clock, const Log& log);
  // After stop().
  ~DeviceFront() override;

  // A named tensor. Never waits.
  Work* submit_device(std::string_view name, const Signature& signature, const Extent& extent, Stream stream);
  // An ordered call: returns once `stream` waits for the result.
  Work* run_device(const Signature& signature, const Extent& extent, Stream stream);
  // All submitted works have ended; flush(): at every member. False when the deadline passed first.
  bool drain(std::optional<TimePoint> deadline = std::nullopt) { return lane_->drain(deadline); }
  bool flush(std::optional<TimePoint> deadline) { return lane_->flush(deadline); }
  // Every unfinished work ends with `cause`. The engine drives nothing any more.
  void stop(const Status& cause) { lane_->stop(cause); }
  [[nodiscard]] cuda::Lane& lane() noexcept { return *lane_; }

  bool wait(Work& work, std::optional<Duration> timeout) override;
  void release(Work* work) noexcept override;
  void order(Work& work, Stream stream) override;
  void flush() {
    lane_->flush(std::nullopt);
    engine_.flush();
  }

 private:
  // Two references: the caller's handle, and the lane until finished().
  class DeviceWork final : public Work, public cuda::Request {
   public:
    explicit DeviceWork(DeviceFront& front) : Work(front) {}

   private:
    void finished(const Ending& ending) override;
  };

  DeviceFront(Engine& engine, const Clock& clock);
  void check_stream(Stream stream) const;
  void check_capture(Stream stream) const;

  Engine& engine_;
  const Clock& clock_;
  std::shared_ptr<const cuda::Runtime> runtime_;
  std::unique_ptr<cuda::Lane> lane_;
  WorkPool<DeviceWork, DeviceFront> works_{*this};
};

}  // namespace hora::engine
