// Calls with device memory: between their handles and the device lane.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "cuda/lane.h"
#include "engine/engine.h"
#include "engine/front.h"
#include "engine/work.h"

namespace hora::engine {

// What concerns host memory it passes on to the engine.
class DeviceFront final : public Front {
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

  Outcome run_ordered(const Signature& signature, const Extent& extent) override {
    return engine_.run_ordered(signature, extent);
  }
  Work* submit(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape,
               const Extent& extent, bool attended) override {
    return engine_.submit(name, signature, shape, extent, attended);
  }
  bool wait(Work& work, std::optional<Duration> timeout) override;
  void release(Work* work) noexcept override;
  void order(Work& work, Stream stream) override;
  void flush() override {
    lane_->flush(std::nullopt);
    engine_.flush();
  }
  void on_view_change(std::function<void(const View& before, const View& after)> callback) override {
    engine_.on_view_change(std::move(callback));
  }
  [[nodiscard]] const View& view() const noexcept override { return engine_.view(); }
  [[nodiscard]] Rank rank() const noexcept override { return engine_.rank(); }

 private:
  class DeviceWork;

  DeviceFront(Engine& engine, const Clock& clock);
  DeviceWork& new_work();
  void check_context(Stream stream) const;

  Engine& engine_;
  const Clock& clock_;
  std::shared_ptr<const cuda::Runtime> runtime_;
  std::unique_ptr<cuda::Lane> lane_;
  Mutex mutex_;
  std::vector<std::unique_ptr<DeviceWork>> works_ GUARDED_BY(mutex_);
  std::vector<DeviceWork*> free_works_ GUARDED_BY(mutex_);
};

}  // namespace hora::engine
