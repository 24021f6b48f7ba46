// The front of a newcomer that has not entered yet (protocol law 10). Its program runs as everybody's does, but its
// calls count for nothing: they return what the donor's calls returned, until the program has caught up.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/unique_fd.h"
#include "base/wire.h"
#include "engine/front.h"
#include "engine/newcomer.h"
#include "engine/replay_log.h"
#include "engine/seen_views.h"
#include "engine/state.h"
#include "engine/work.h"
#include "engine/work_pool.h"

namespace hora::engine {

// Whether the result of a boundary's allreduce names a newcomer that should enter there.
[[nodiscard]] bool names_newcomer(std::span<const std::byte> result);

// Thread safe, one call at a time. Until the first boundary its calls do nothing and leave memory as it is: what they
// would bring about comes with the state.
class Observer final : public Front {
 public:
  Observer(Newcomer& newcomer, const StateRegistry& state, const Log& log);

  using Front::run_ordered;
  Outcome run_ordered(const Signature& signature, const Extent& extent, const View& seen) override;
  Work* submit(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape,
               const Extent& extent, bool attended) override;
  bool wait(Work& work, std::optional<Duration> timeout) override;
  void release(Work* work) noexcept override { works_.release(work); }
  void flush() override {}
  void on_view_change(SeenViews::Callback callback) override { views_.on_change(std::move(callback)); }
  // The donor's: its program must do here what it did there.
  [[nodiscard]] const View& view() const noexcept override { return views_.view(); }
  [[nodiscard]] Rank rank() const noexcept override { return view().rank_of(donor_.load()).value_or(Rank{0}); }

  // Crosses a step boundary: the first time receives the state. True: this process is a member from here on, at this
  // boundary of the job, and the engine takes over.
  bool cross();
  [[nodiscard]] std::uint64_t step() const noexcept { return step_; }

 private:
  struct Result {
    ResultEntry entry;
    wire::Bytes payload;
  };

  void receive_state();
  bool try_donor(const Member& donor);
  bool await_decision(Epoch epoch);
  Result next_ordered();
  Result next_named(std::string_view name);
  void expect_boundary();
  bool read_until_result();
  void keep(ResultEntry entry);
  LogEntry read_entry();
  std::optional<LogEntry> try_read_entry();
  bool read_exact(std::span<std::byte> target);
  void read(std::span<std::byte> target);
  void send_progress();
  void deliver(const Result& result, const Signature& signature, const Extent& extent, const View& seen) const;
  [[noreturn]] void donor_is_gone() const;
  [[noreturn]] void diverged(const std::string& what) const;

  SeenViews views_;
  std::atomic<MemberId> donor_;
  Mutex mutex_;  // held by every call but the getters: it guards all below
  Newcomer& newcomer_;
  const StateRegistry& state_;
  const Log& log_;
  UniqueFd stream_;
  bool following_ = false;
  std::uint64_t step_ = 0;
  std::optional<std::uint64_t> boundary_;  // read, and not crossed yet
  std::deque<Result> ordered_;
  std::map<std::string, std::deque<Result>, std::less<>> named_;
  WorkPool<Work, WorkOwner> works_{*this};
};

}  // namespace hora::engine
