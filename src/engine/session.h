// The composition root: builds everything that one rank needs, in order, and takes it down again.
//
//   store -> founding view -> own segment -> mesh and peers' segments -> data plane -> engine -> threads
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "base/log.h"
#include "engine/engine.h"
#include "engine/sentinel.h"
#include "hora/options.hpp"
#include "hora/status.hpp"
#include "interfaces/store.h"
#include "interfaces/system_clock.h"
#include "transports/control/mesh.h"
#include "transports/shm/group.h"
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

class Session {
 public:
  // Joins the job. Blocks until all founders have come, or options.start_timeout_ms.
  static Result<std::unique_ptr<Session>> start(const Options& options);
  static Result<std::unique_ptr<Session>> start(const Options& options, SegmentSource& segments);

  // Without leave(), the others see a death.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  [[nodiscard]] Engine& engine() noexcept { return *engine_; }
  // Departs in order. timed_out when the others did not agree within `timeout`; the departure is then a death.
  Status leave(std::chrono::milliseconds timeout);

 private:
  Session(const Options& options, LogLevel level);
  Status join(SegmentSource& segments);
  Status connect(SegmentSource& segments, const View& view, Rank self);
  Status run(const View& view);
  void stop();
  [[nodiscard]] std::vector<const shm::Segment*> segments_of(const View& view) const;

  const Options options_;
  const int process_;  // a forked child must not take its parent's session down
  Log log_;
  SystemClock clock_;
  MemberId id_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<control::Mesh> mesh_;
  std::unique_ptr<shm::Segment> own_segment_;
  std::map<MemberId, std::shared_ptr<const shm::Segment>> segments_;  // shared with the sentinel and its watcher
  std::map<MemberId, LocalPeer> peers_;                               // until the sentinel takes them
  std::unique_ptr<shm::ShmGroup> group_;
  std::unique_ptr<NegotiationLink> negotiation_link_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Sentinel> sentinel_;
  std::unique_ptr<shm::LivenessWatcher> watcher_;
  std::thread sentinel_thread_;
  std::thread background_thread_;
};

}  // namespace hora::engine
