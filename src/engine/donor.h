// The donor's side of a join (protocol law 10): gives newcomers the registered state of a step boundary, and then all
// that this member's calls return, until they have entered.
//
// The others' steps lengthen by one copy of the state, at the boundary, on this member; everything else happens on a
// thread of its own.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "engine/donation.h"
#include "engine/recorder.h"
#include "engine/state.h"
#include "interfaces/clock.h"

namespace hora::engine {

// All donations of this member.
class Donor final : public Recorder {
 public:
  Donor(const StateRegistry& state, std::uint64_t log_bytes_max, const Log& log)
      : state_(state), log_bytes_max_(log_bytes_max), log_(log) {}

  // The sentinel's thread, which waits for no copy.
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

  // Before this member leaves: waits until the newcomers that have entered got all that they lack, at most until
  // `deadline`.
  void drain(TimePoint deadline, const Clock& clock);
  // Any thread: ends all donations, and begins no more.
  void stop();

  // Recorder
  void ordered(const Status& status, const Outcome& outcome, const Signature& signature,
               const Extent& extent) noexcept override;
  void named(std::string_view name, const Status& status, const Outcome& outcome, const Signature& signature,
             const Extent& extent) noexcept override;

 private:
  struct Arrivals {
    std::vector<std::pair<MemberId, UniqueFd>> newcomers;
    std::vector<View> views;
  };
  void take_arrivals() REQUIRES(mutex_);
  void begin_waiting() REQUIRES(mutex_);
  template <typename MakeEntry>
  void record(const MakeEntry& make_entry, const Extent& extent) noexcept;

  const StateRegistry& state_;
  const std::uint64_t log_bytes_max_;
  const Log& log_;
  Mutex arrivals_mutex_;  // the sentinel's: held for moments
  Arrivals arrivals_ GUARDED_BY(arrivals_mutex_);
  Mutex mutex_;  // held while results are copied
  std::vector<std::unique_ptr<Donation>> donations_ GUARDED_BY(mutex_);
  std::vector<std::pair<MemberId, UniqueFd>> waiting_ GUARDED_BY(mutex_);  // until the next boundary
  std::vector<View> installed_ GUARDED_BY(mutex_);                         // later than what calls return in
  bool stopped_ GUARDED_BY(mutex_) = false;
};

}  // namespace hora::engine
