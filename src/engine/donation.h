// What one newcomer gets from this member: the registered state of a step boundary, and then all that this member's
// calls return, until it has entered (protocol law 10).
#pragma once

#include <atomic>
#include <cstdint>
#include <future>
#include <optional>
#include <span>
#include <thread>

#include "base/log.h"
#include "base/time.h"
#include "base/unique_fd.h"
#include "base/wire.h"
#include "engine/replay_queue.h"
#include "engine/state.h"
#include "hora/status.hpp"
#include "hora/view.hpp"

namespace hora::engine {

// Its thread prepares memory, sends, and hears how far the newcomer is. All methods but copy() one at a time.
class Donation {
 public:
  // Each goes over to the next; to `over` it can come from any.
  enum class Stage {
    preparing,  // the thread gets memory for a copy of the state
    ready,      // the application copies the state, at its next boundary
    copied,     // the application tells of that boundary
    following,  // the newcomer gets what calls return
    finishing,  // nothing follows: it is in the view. The thread sends the rest, and waits until it is taken
    over,       // the newcomer has everything, or was given up
  };

  // `log_bytes_max`: a newcomer that lags behind by more is given up. Throws std::system_error.
  Donation(MemberId newcomer, UniqueFd stream, std::size_t state_bytes, std::uint64_t log_bytes_max, const Log& log);
  ~Donation();

  [[nodiscard]] MemberId newcomer() const noexcept { return newcomer_; }
  [[nodiscard]] Stage stage() const noexcept { return stage_.load(std::memory_order_acquire); }  // as advance()
  // Whether the newcomer should enter at boundary `step`, which is about to be crossed in `epoch`.
  [[nodiscard]] bool wants_in(std::uint64_t step, Epoch epoch) const;

  // The application's thread, between two steps: takes the state, if the memory for it is ready.
  void copy(const StateRegistry& state);
  // Boundary `step` was crossed in `view`; `later` views are installed already.
  void cross(std::uint64_t step, const View& view, std::span<const View> later, const StateRegistry& state);
  // For a newcomer that follows. `payload` is copied.
  void record(const LogEntry& entry, std::span<const std::byte> payload = {});
  // Its newcomer is in the view that calls return in from now on.
  void finish();
  // Whether it is over within `timeout`.
  [[nodiscard]] bool wait_over(Duration timeout) const { return ended_.wait_for(timeout) == std::future_status::ready; }
  // Something could not be recorded: a newcomer that follows is given up.
  void lose();
  // The thread ends soon, whatever the stage.
  void stop() { queue_.end(ReplayQueue::End::stopped); }

 private:
  void run(std::size_t state_bytes);
  Status give(std::size_t state_bytes);
  bool send_queue();
  bool read_progress();
  void advance(Stage from, Stage to) noexcept;

  const MemberId newcomer_;
  const UniqueFd stream_;
  const std::uint64_t log_bytes_max_;
  const Log& log_;
  std::atomic<Stage> stage_{Stage::preparing};
  std::atomic<std::uint64_t> crossed_{0};  // by the newcomer
  std::atomic<std::uint64_t> linked_{0};   // epoch of the view to whose members the newcomer is linked
  std::uint64_t waited_since_ = 0;         // a boundary; the application's
  TouchedMemory state_memory_;             // the thread's while preparing, then the application's
  ReplayQueue queue_;

  // The thread's.
  std::optional<ReplayQueue::Piece> sending_;
  std::span<const std::byte> unsent_;  // of sending_
  wire::Bytes progress_;
  std::promise<void> end_;
  const std::future<void> ended_ = end_.get_future();
  std::thread thread_;
};

}  // namespace hora::engine
