// The donor's side of a join (protocol law 10): gives newcomers the registered state of a step boundary, and then all
// that this member's calls return, until they have entered.
//
// The others' steps lengthen by one copy of the state, at the boundary, on this member; everything else happens on a
// thread of its own.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "base/wire.h"
#include "engine/recorder.h"
#include "engine/replay_log.h"
#include "engine/state.h"

namespace hora::engine {

// Private anonymous memory that was touched before it is needed, so that filling it costs a copy and nothing else.
class TouchedMemory {
 public:
  TouchedMemory() noexcept = default;
  // Empty when there is not so much memory.
  explicit TouchedMemory(std::size_t bytes);
  ~TouchedMemory();
  TouchedMemory(TouchedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  TouchedMemory& operator=(TouchedMemory&& other) noexcept {
    std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
    return *this;
  }
  [[nodiscard]] std::span<std::byte> span() const noexcept { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// What one newcomer gets. Its thread prepares memory, sends, and hears how far the newcomer is.
class Donation {
 public:
  // `log_bytes_max`: a newcomer that lags behind by more is given up.
  Donation(MemberId newcomer, UniqueFd stream, std::size_t state_bytes, std::uint64_t log_bytes_max, const Log& log);
  ~Donation();

  [[nodiscard]] MemberId newcomer() const noexcept { return newcomer_; }
  // It ended: the newcomer entered and has everything, or it was given up.
  [[nodiscard]] bool over() const noexcept { return over_.load(std::memory_order_acquire); }
  // The newcomer gets the state, and what follows it.
  [[nodiscard]] bool begun() const noexcept { return begun_; }
  [[nodiscard]] bool copied() const noexcept { return copied_; }

  // The application's thread, between two steps. First without a lock: copies the state, if it is still to be given
  // and there is memory for it. Then, with nobody recording, tells of the boundary.
  void copy(const StateRegistry& state);
  void cross(std::uint64_t step, const View& view, std::span<const View> later, const StateRegistry& state);
  // Whether the newcomer should enter at boundary `step`, which is about to be crossed in `epoch`.
  [[nodiscard]] bool ready(std::uint64_t step, Epoch epoch) const;
  // Any thread. `payload` is copied.
  void record(const LogEntry& entry, std::span<const std::byte> payload);
  // Nothing more follows: the thread ends once all is sent.
  void finish();

 private:
  void run(std::size_t state_bytes);
  bool send_some(std::span<const std::byte>& data);
  bool send_queue();
  bool read_progress();
  void give_up(std::string_view why);
  void wake() const noexcept;

  const MemberId newcomer_;
  const UniqueFd stream_;
  const std::uint64_t log_bytes_max_;
  const Log& log_;
  const UniqueFd wake_;
  std::atomic<bool> prepared_{false};  // state_memory_ is the application's now
  std::atomic<bool> over_{false};
  std::atomic<std::uint64_t> crossed_{0};  // by the newcomer
  std::atomic<std::uint64_t> linked_{0};   // epoch of the view to whose members the newcomer is linked
  bool copied_ = false;                    // the application's
  bool begun_ = false;                     // guarded by the donor's mutex
  std::uint64_t waited_since_ = 0;         // the boundary of the state; the application's
  TouchedMemory state_memory_;             // the thread's, but between prepared_ and the first entry

  Mutex mutex_;
  std::deque<wire::Bytes> queue_ GUARDED_BY(mutex_);
  std::uint64_t queued_bytes_ GUARDED_BY(mutex_) = 0;
  bool finished_ GUARDED_BY(mutex_) = false;
  bool overfull_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;

  // The thread's.
  std::span<const std::byte> state_left_;  // of the payload of the first entry
  wire::Bytes sending_;
  std::size_t sent_ = 0;
  bool snapshot_next_ = true;
  wire::Bytes progress_;
  std::thread thread_;
};

// All donations of this member.
class Donor final : public Recorder {
 public:
  Donor(const StateRegistry& state, std::uint64_t log_bytes_max, const Log& log)
      : state_(state), log_bytes_max_(log_bytes_max), log_(log) {}

  // The sentinel's thread.
  void start(MemberId newcomer, UniqueFd stream);
  // `view` is about to be installed: before any call can return in it.
  void on_install(const View& view);

  // The application's thread. The newcomer that should enter at boundary `step`, which is about to be crossed in the
  // view `epoch`.
  [[nodiscard]] std::optional<MemberId> ready(std::uint64_t step, Epoch epoch);
  // Boundary `step` was crossed in `view`. `last`: it is followed by another view at once, so that no newcomer can
  // begin here. Whether calls must be recorded from now on.
  [[nodiscard]] bool cross(std::uint64_t step, const View& view, bool last);
  // This member's calls return in `view` from now on: newcomers that are in it have all that they need.
  void finish(const View& view);
  // Ends all donations; nothing is recorded any more.
  void close();

  // Recorder
  void ordered(const Status& status, const Outcome& outcome, const Signature& signature, const Extent& extent) override;
  void named(std::string_view name, const Status& status, const Outcome& outcome, const Signature& signature,
             const Extent& extent) override;

 private:
  void begin_waiting() REQUIRES(mutex_);
  void record(ResultEntry entry, const Extent& extent);

  const StateRegistry& state_;
  const std::uint64_t log_bytes_max_;
  const Log& log_;
  Mutex mutex_;
  std::vector<std::unique_ptr<Donation>> donations_ GUARDED_BY(mutex_);
  std::vector<std::pair<MemberId, UniqueFd>> waiting_ GUARDED_BY(mutex_);  // until the next boundary
  std::vector<View> installed_ GUARDED_BY(mutex_);                         // later than what calls return in
  bool closed_ GUARDED_BY(mutex_) = false;
};

}  // namespace hora::engine
