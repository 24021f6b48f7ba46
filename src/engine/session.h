// The composition root: builds everything that one rank needs, in order, and takes it down again.
//
//   store -> founding view -> own segment -> mesh and peers' segments -> data plane -> engine -> threads
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/log.h"
#include "engine/data_plane.h"
#include "engine/device_front.h"
#include "engine/donor.h"
#include "engine/engine.h"
#include "engine/hosted_store.h"
#include "engine/mpi_run.h"
#include "engine/newcomer.h"
#include "engine/obituaries.h"
#include "engine/observer.h"
#include "engine/sentinel.h"
#include "engine/state.h"
#include "hora/options.hpp"
#include "hora/status.hpp"
#include "interfaces/store.h"
#include "interfaces/system_clock.h"
#include "transports/control/mesh.h"
#include "transports/shm/liveness.h"
#include "transports/shm/segment.h"

namespace hora::engine {

// Where segments come from. Tests put several ranks into one process, over one mapping of each segment, so that a
// thread sanitizer sees them.
class SegmentSource {
 public:
  virtual ~SegmentSource() = default;
  virtual Result<std::unique_ptr<shm::Segment>> create(MemberId owner, const shm::SegmentLayout& layout);
  virtual Result<std::unique_ptr<shm::Segment>> attach(UniqueFd fd, MemberId owner, const shm::SegmentLayout& layout);
};

class Session final : private SentinelHost {
 public:
  // Joins the job: as a founder, blocks until all founders have come, or options.start_timeout_ms; as a newcomer, until
  // it is linked to the members.
  static Result<std::unique_ptr<Session>> start(const Options& options);
  static Result<std::unique_ptr<Session>> start(const Options& options, SegmentSource* segments);

  // Without leave(), the others see a death.
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Where calls go: the engine, or the observer of a newcomer that has not entered.
  [[nodiscard]] Front& front() noexcept { return *front_.load(std::memory_order_acquire); }
  [[nodiscard]] bool observing() const noexcept {
    return observer_ != nullptr && front_.load(std::memory_order_acquire) == observer_.get();
  }
  [[nodiscard]] Engine& engine() noexcept { return *engine_; }  // of a member
  [[nodiscard]] StateRegistry& state() noexcept { return state_; }
  // Where calls with device memory go; made by the first one. Throws Error.
  [[nodiscard]] DeviceFront& device(Stream stream);
  // Before the first call of device(): what to use instead of the driver and NCCL of this machine.
  void use_runtime(std::shared_ptr<const cuda::Runtime> runtime) { runtime_ = std::move(runtime); }
  void flush();
  // A step boundary; boundary.cc. Throws Error.
  void step();
  // Among the ranks of this host when the job began, or as the launcher says.
  [[nodiscard]] int local_rank() const noexcept { return options_.local_rank.value_or(0); }
  [[nodiscard]] int local_size() const noexcept { return options_.local_size.value_or(1); }
  void on_view_change(SeenViews::Callback callback);
  void interrupt_waits(std::function<bool()> interrupted);
  // Departs in order. timed_out when the others did not agree within `timeout`, or their majority is mute; the
  // departure is then a death. Where this rank is no member any more, why.
  Status leave(std::chrono::milliseconds timeout);

 private:
  Session(const Options& options, LogLevel level, SegmentSource* segments);
  Status join();
  void give_up(const Status& why);
  Status start_mpi();
  Status come_together();
  Status found(const Member& self);
  Status follow(const Member& self);
  Status create_segment(const AgreedConfig& config);
  Status start_sentinel(const AgreedConfig& config);
  Status start_engine(const View& view, const Positions& done);
  void count_local_ranks(const View& view);
  void stop();
  Surroundings surroundings();
  elastic::MembershipOptions membership_options() const;

  Result<LocalPeer> meet(control::PeerLink link) override;
  Status prepare(const View& view, bool somebody_died) override;
  void forget(MemberId member) override { data_plane_->forget(member); }
  Result<Engine*> enter(const View& view, const Positions& done) override;

  Options options_;
  const int process_;  // a forked child must not take its parent's session down
  SegmentSource own_segments_;
  SegmentSource& segments_;
  Log log_;
  SystemClock clock_;
  MemberId id_;
  StateRegistry state_;
  std::uint64_t step_ = 0;                     // boundaries crossed
  std::unique_ptr<MpiRun> mpi_;                // of a founder, where the transport is mpi
  std::unique_ptr<HostedStore> hosted_store_;  // in rank 0, where no launcher hosts one
  std::unique_ptr<Store> store_;
  std::vector<pid_t> local_processes_;  // of the peers on this host
  std::unique_ptr<control::Mesh> mesh_;
  std::unique_ptr<shm::Segment> own_segment_;
  std::unique_ptr<DataPlane> data_plane_;
  std::unique_ptr<SubjectLink> negotiation_link_;
  std::unique_ptr<SubjectLink> flush_link_;
  std::unique_ptr<SubjectLink> device_link_;
  std::unique_ptr<Engine> engine_;
  Mutex device_mutex_;
  std::shared_ptr<const cuda::Runtime> runtime_;
  std::unique_ptr<DeviceFront> device_ GUARDED_BY(device_mutex_);
  std::atomic<DeviceFront*> ready_device_{nullptr};
  std::unique_ptr<Donor> donor_;
  std::unique_ptr<Newcomer> newcomer_;
  std::unique_ptr<Observer> observer_;
  std::atomic<Front*> front_{nullptr};
  SeenViews::Callback callback_;
  std::function<bool()> interrupted_;
  std::unique_ptr<Sentinel> sentinel_;
  std::unique_ptr<shm::LivenessWatcher> watcher_;
  std::unique_ptr<Obituaries> obituaries_;
  std::thread sentinel_thread_;
  std::thread background_thread_;
};

}  // namespace hora::engine
