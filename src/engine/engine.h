// The engine: what one process does for its job. Both fronts submit to it; whoever waits drives it.
//
// Reading order: calls.cc (what a caller's thread does), driver.cc (what a holder of the token does), recovery.cc (how
// a view change interrupts and resumes it), then sentinel.h (who asks for that) and session.h (who builds it all).
//
// Threads. "Driven state" is touched only by the holder of the token. freeze() takes the token from a driver within
// one step. The hot path (an ordered call that nobody disturbs) makes no syscall, allocation, lock or log.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/wire.h"
#include "engine/front.h"
#include "engine/ladder.h"
#include "engine/recorder.h"
#include "engine/seen_views.h"
#include "engine/token.h"
#include "engine/work.h"
#include "engine/work_pool.h"
#include "hora/hora.hpp"
#include "interfaces/board.h"
#include "interfaces/clock.h"
#include "interfaces/group_transport.h"
#include "interfaces/host_plane.h"
#include "interfaces/messenger.h"
#include "negotiation/negotiator.h"

namespace hora::engine {

struct EngineOptions {
  Duration stall_warning;
  Duration operation_timeout;
  LadderShape ladder = kAlone;  // of a thread that waits
};

// What the engine asks of the membership layer. Thread safe; never blocks.
class ViewRequests {
 public:
  virtual ~ViewRequests() = default;
  // An operation is older than the operation timeout: have its fate decided.
  virtual void request_view_change(const Status& cause) = 0;
};

class Engine final : public Front, public HostPlane {
 public:
  // Makes the board of a view that the transport has entered. Empty: negotiation goes by messages.
  using BoardFactory = std::function<std::unique_ptr<Board>(const View&)>;

  // The references must outlive the engine. `self` is a member of `view`, the founding view or the one that a newcomer
  // enters, with `done` operations behind it, as `transport`.
  Engine(const EngineOptions& options, const View& view, const Positions& done, MemberId self,
         GroupTransport& transport, BoardFactory make_board, Messenger& negotiation_link, Messenger& flush_link,
         Messenger& device_link, const Clock& clock, const Log& log);
  ~Engine() override;
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // --- callers' threads
  using Front::run_ordered;
  Outcome run_ordered(const Signature& signature, const Extent& extent, const View& seen) override;
  Work* submit(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape,
               const Extent& extent, bool attended) override;
  bool wait(Work& work, std::optional<Duration> timeout) override;
  void release(Work* work) noexcept override { works_.release(work); }
  void flush() override;
  // The same, until `deadline`; false where this rank was fenced, or the deadline passed, before.
  bool wait_stable(std::optional<TimePoint> deadline);
  void on_view_change(SeenViews::Callback callback) override { views_.on_change(std::move(callback)); }
  [[nodiscard]] const View& view() const noexcept override { return views_.view(); }
  [[nodiscard]] Rank rank() const noexcept override { return view().rank_of(self_).value_or(Rank{}); }
  // Named works of callers that have not ended.
  [[nodiscard]] std::uint32_t unfinished() const noexcept {
    const std::uint32_t errands = errands_.load(std::memory_order_acquire);  // counted first and uncounted last
    return std::max(unfinished_.load(std::memory_order_acquire), errands) - errands;
  }
  // What a caller sees of views moves on to `epoch`, in which an operation of this caller has ended.
  void adopt_view(Epoch epoch) { views_.adopt(epoch); }
  // Returns in the successor of the view `epoch`, once there is one.
  void wait_for_successor(Epoch epoch);
  // As run_ordered(), but to the end whatever interrupts it.
  Outcome run_to_end(const Signature& signature, const Extent& extent);
  // Asked now and then by a thread that waits in run_ordered(). True: the call throws timed_out, and the background
  // thread takes its operation on; the next call waits for that first (and, interrupted there, throws try_again, with
  // nothing begun). So it is where the question itself throws. On the thread that calls run_ordered().
  void interrupt_waits(std::function<bool()> interrupted) { interrupted_wait_ = std::move(interrupted); }
  // From now on what ends is told to `recorder`; null: no more. On the thread that submits, with nothing in flight.
  void record_to(Recorder* recorder) noexcept { recorder_.store(recorder, std::memory_order_release); }

  // --- device memory
  void run(std::string_view name, const Signature& signature, MemberId root, const Extent& extent,
           Errand& errand) override;
  void tell(MemberId to, std::span<const std::byte> message) override;
  // `watcher` hears of the installed view at once, and of all later ones. Once; it outlives the sentinel's thread.
  void watch(PlaneWatcher& watcher);

  // --- the background thread
  void run_background();

  // --- the sentinel
  void connect(ViewRequests& requests) noexcept { requests_ = &requests; }
  void on_negotiation_message(MemberId from, std::span<const std::byte> message);
  void on_flush_message(MemberId from, std::span<const std::byte> message);
  void on_device_message(MemberId from, std::span<const std::byte> message);
  // Takes the token for good, until install() or fence(); not once fenced.
  void freeze();
  // What this member did, for decide(). Freezes first; the report is final until the install. Empty once fenced.
  [[nodiscard]] wire::Bytes report();
  // Enters `next` as `verdict` (of decide()) says, and lets drivers go on. Freezes first where that was not done.
  Status install(const View& next, std::span<const std::byte> verdict);
  // Every pending and later operation fails with `cause`; run_background() returns.
  void fence(const Status& cause);

  // Merges the reports of frozen members into the verdict for all of them. Pure.
  static wire::Bytes decide(const View& old, const View& next, const std::map<MemberId, wire::Bytes>& reports);
  // Whether a newcomer can enter: nothing is active at any member, and all have ended the same operations. Pure.
  static bool may_enter(const View& old, const std::map<MemberId, wire::Bytes>& reports);
  // Where a newcomer enters that `verdict` takes in.
  static std::optional<Positions> positions_of(std::span<const std::byte> verdict);

 private:
  // The operation that a channel executes, and the works that wait for it, one for each extent.
  struct Execution {
    bool active = false;
    Operation operation;
    std::vector<Extent> extents;
    std::vector<Work*> works;
    std::optional<TimePoint> waiting_since;  // read only once a driver had to sleep
    Duration warn_after{};
    bool expired = false;
    bool from_negotiator = false;
    std::optional<Epoch> committed_in;  // it ended in this view at other members, and its result is still to come
    std::vector<Work*> following;       // of the operation after it, which other members have begun
    Signature following_signature;
  };

  // How a call ends that becomes no operation, on all members alike.
  struct Broken {
    Status status;
    Epoch epoch;  // the view that it ends in
  };

  Execution& execution(Channel channel) noexcept { return executions_[static_cast<std::size_t>(channel)]; }
  [[nodiscard]] const Execution& execution(Channel channel) const noexcept {
    return executions_[static_cast<std::size_t>(channel)];
  }
  std::uint64_t& sequence(Channel channel) noexcept { return sequences_[static_cast<std::size_t>(channel)]; }

  // calls.cc
  Outcome run(const Signature& signature, const Extent& extent, const View& seen, std::optional<Duration> patience);
  bool await_ordered(std::optional<Duration> patience);
  void leave_ordered() noexcept;
  void record_ordered();
  enum class Purpose : std::uint8_t { begin, drive };  // what a thread wants the token for
  template <typename Done>
  bool take_token(const Done& done, std::optional<TimePoint> deadline, Purpose purpose);
  // Whether who drives must let go of the token. seq_cst: see sleep_unless().
  [[nodiscard]] bool is_wanted() const noexcept {
    return halted_.load(std::memory_order_seq_cst) != 0 || beginners_.load(std::memory_order_seq_cst) != 0;
  }
  template <typename Done>
  void drive(const Done& done, std::optional<TimePoint> deadline);
  template <typename Done>
  bool drive_until(const Done& done, const Work* own, std::optional<Duration> timeout);
  void release_token() noexcept;
  void hand_over() noexcept;
  void wake_driver() noexcept;
  bool wake_waiting() noexcept;
  void wake_background() noexcept;
  void throw_if_fenced() const;
  void enqueue(Work* work, bool attended);
  void end_what_came_late();

  // driver.cc: by the holder of the token. Driven state that is left half changed is of no use to anybody: where memory
  // runs out there, this process ends, and the others go on without it.
  void begin_ordered() noexcept;
  bool drive_once() noexcept;
  bool settle();
  bool step_channel(Channel channel);
  void end_execution(Channel channel, Step how);
  void finish(Work* work, const Status& status, const Outcome& outcome, bool more = false) noexcept;
  void finish_ordered(const Status& status, const Outcome& outcome) noexcept;
  bool drive_negotiation();
  void start_group(const Signature& signature);
  bool accept_inbox() noexcept;
  void accept(Work* work) noexcept;
  void apply_negotiation_actions();
  template <typename Done>
  void sleep_unless(const Done& done, Duration longest);
  Duration check_patience();
  Duration check_execution(Channel channel, TimePoint now);
  [[nodiscard]] Status mismatch_of(Channel channel) const;
  [[nodiscard]] std::optional<Broken> refusal_of(Work& work) const;
  [[nodiscard]] bool unattended_work() const noexcept {
    return inbox_filled_.load(std::memory_order_seq_cst) || unfinished_.load(std::memory_order_seq_cst) > 0 ||
           unsettled_.load(std::memory_order_relaxed) ||
           (ordered_left_.load(std::memory_order_seq_cst) && !ordered_work_.done());
  }

  // flush.cc
  [[nodiscard]] Positions ended() noexcept;
  [[nodiscard]] bool is_stable(const Positions& positions) const;
  bool await_stable(std::optional<TimePoint> deadline) noexcept;
  bool ask_what_is_held(const Positions& positions, std::set<MemberId>& asked);
  void answer_flush_questions();

  // recovery.cc: by the sentinel, which holds the token then
  void break_operation(Channel channel, const ChannelVerdict& verdict, const std::vector<std::string>& group,
                       StatusCode code);
  void restart_group(std::uint64_t committed, const std::vector<std::string>& group);
  [[nodiscard]] Work* pending_work(std::string_view name) const;
  void renegotiate();
  void thaw() noexcept;

  const EngineOptions options_;
  const MemberId self_;
  GroupTransport& transport_;
  const BoardFactory make_board_;
  Messenger& negotiation_link_;
  Messenger& flush_link_;
  Messenger& device_link_;
  const Clock& clock_;
  const Log& log_;
  ViewRequests* requests_ = nullptr;

  Token token_;
  std::atomic<std::uint32_t> halted_{0};           // not 0: drivers let go of the token and stay away
  std::atomic<std::uint32_t> wake_word_{0};        // changes when a driver that sleeps has something to look at
  std::atomic<std::uint32_t> turn_{0};             // changes when those who wait for another driver should look again
  std::atomic<std::uint32_t> waiting_{0};          // threads that sleep on turn_, or are about to
  std::atomic<std::uint32_t> callers_{0};          // callers' threads that want the token
  std::atomic<std::uint32_t> beginners_{0};        // ... to begin something with it
  std::atomic<std::uint32_t> background_word_{0};  // changes when the background thread has something to look at
  std::atomic<std::uint32_t> unfinished_{0};       // negotiated works that were submitted and have not ended
  std::atomic<std::uint32_t> errands_{0};          // ... of which no caller knows
  std::atomic<std::uint64_t> installed_epoch_{0};  // of view_, for those without the token
  std::atomic<Recorder*> recorder_{nullptr};
  std::atomic<bool> unsettled_{false};  // other members may still need from here what the last install committed
  std::atomic<bool> fenced_{false};
  std::atomic<bool> ordered_left_{false};  // nobody waits for ordered_work_: its caller was interrupted

  // --- driven state
  View view_;
  Execution executions_[kChannelCount];
  Positions sequences_{};                             // of the operation started last
  std::map<std::uint64_t, Broken> broken_sequences_;  // ordered operations that failed before they were called here
  std::multimap<std::string, Broken, std::less<>> broken_names_;  // named ones, likewise, in their order
  std::unique_ptr<Board> board_;                                  // of view_, as negotiator_
  std::unique_ptr<negotiation::Negotiator> negotiator_;
  std::deque<std::pair<MemberId, wire::Bytes>> early_messages_;  // of a view not yet installed
  std::vector<Work*> negotiated_;                                // accepted and not ended
  std::vector<Work*> by_entry_;                                  // the work of a negotiator's entry
  const Work* attended_ = nullptr;                               // the work whose own thread drives now
  bool frozen_ = false;                                          // the sentinel holds the token
  std::vector<std::pair<MemberId, Positions>> flush_questions_;  // to be answered once that has ended here
  Work ordered_work_;

  WorkPool<Work, WorkOwner> works_{*this};

  // --- on the way to the driver
  Mutex inbox_mutex_;
  std::vector<Work*> submitted_ GUARDED_BY(inbox_mutex_);
  std::deque<std::pair<MemberId, wire::Bytes>> messages_ GUARDED_BY(inbox_mutex_);
  std::vector<std::pair<MemberId, Positions>> asked_ GUARDED_BY(inbox_mutex_);
  std::atomic<bool> inbox_filled_{false};

  // --- flush()
  Token flush_turn_;                                             // one at a time: two would take turns beginning
  std::map<MemberId, Positions> held_ GUARDED_BY(inbox_mutex_);  // what members have answered
  std::atomic<std::uint32_t> answers_{0};

  SeenViews views_;
  Mutex watcher_mutex_;  // held over what it is told, and over an install: it misses no view
  PlaneWatcher* watcher_ GUARDED_BY(watcher_mutex_) = nullptr;
  std::function<bool()> interrupted_wait_;  // of the thread that makes ordered calls
  Status fence_cause_;                      // written once, before fenced_ is set
};

}  // namespace hora::engine
