// Tells of a local peer's death at the start of its exit, long before its sockets close (design: liveness word).
//
// One thread holds the own segment's robust mutex for life and sleeps on the peers' words, which it only reads: locking
// a peer's word could mark a living member dead when two pid namespaces have equal thread ids. The kernel marks a word
// owner-died when its holder exits; it does not on SIGSTOP, on exec by the holder, or before a core dump is written, so
// a second witness is needed. A segment's word serves one watcher in its life.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "hora/status.hpp"
#include "hora/types.hpp"
#include "transports/shm/segment.h"

namespace hora::shm {

class LivenessHandler {
 public:
  virtual ~LivenessHandler() = default;
  // The word of `member` is marked, or was given up by the end of its watcher: it decides nothing more, though its last
  // writes may still land. Once for each segment, unless it is removed and named again. On the watcher's thread, which
  // holds the own word: no user code, no waiting.
  virtual void on_peer_ended(MemberId member) = 0;
  // The own word is marked: peers take this process for dead, and it must fence itself.
  virtual void on_self_marked() = 0;
};

class LivenessWatcher {
 public:
  // Returns once the own word is held. `own` and `handler` must outlive the watcher.
  static Result<std::unique_ptr<LivenessWatcher>> start(Segment& own, LivenessHandler& handler);
  // Gives the own word up, which tells peers that this member has ended. So whatever decides for it must have ended
  // before. Waits for a running handler call only.
  ~LivenessWatcher();
  LivenessWatcher(const LivenessWatcher&) = delete;
  LivenessWatcher& operator=(const LivenessWatcher&) = delete;

  // Watches exactly these from now on; never waits. A death that is being noticed may still be reported for a peer that
  // was just removed. Segments are shared because the watcher may still sleep on a word of a removed one. Thread safe.
  void set_peers(std::vector<std::shared_ptr<const Segment>> peers);

 private:
  LivenessWatcher(Segment& own, LivenessHandler& handler);
  void run();
  bool hold_own_word();
  void watch();
  void leave();

  Segment& own_;
  LivenessHandler& handler_;
  const int pid_;
  std::atomic<int> state_{0};              // 0 starting, 1 holding, -1 failed: read once by start()
  std::atomic<std::uint32_t> changed_{0};  // futex: counts set_peers() calls and the stop
  std::atomic<bool> stop_{false};
  Mutex mutex_;
  std::vector<std::shared_ptr<const Segment>> peers_ GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace hora::shm
