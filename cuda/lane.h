// The path of device memory through one process: agreement, NCCL where it stands, the host where it does not.
//
// Agreement. A tensor is first a named operation of the host, of a few words: what was called, and which communicator
// stands here. So a disagreement is the same error everywhere before anything is enqueued, all members take the same
// path, and the response log gives all device operations one order, whichever front they come from. What is agreed
// together is fused.
//
// Fast path. copy-in | NCCL | copy-out on one stream of the library, after an event of the caller's stream and before
// one that the caller's stream waits for. No host waits for the device, but that only so many operations are on the
// stream at one time: the driver blocks whoever puts too much on it.
//
// A view change, or a communicator that fails. A flag is raised, and only then the communicator is ended (Builder). The
// copy-out decides (Decision): PENDING to DONE, or, seeing the flag, to FROZEN. So what an aborted reduction left is
// never seen, a result that was seen is never redone, and the caller's stream, which waits for the mirror of the
// decision's word, stalls instead of going on with garbage. Decisions are a prefix of DONE. Members then agree on the
// shortest and the longest prefix: what is done at one of them is forwarded, the rest done again among the members of
// the new view, both by the host; then the host itself sets the mirror. Meanwhile a new communicator is made.
//
// While streams of callers stall, nothing is asked of the driver that could wait for them: no memory, no stream. And no
// lock is held over a call of the driver: the sentinel never waits for one.
//
// A result is retained in its stage until all members have decided its operation; the knowledge rides on agreements.
// docs/protocol.md has the names and messages.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "base/time.h"
#include "cuda/batch.h"
#include "cuda/builder.h"
#include "cuda/ferry.h"
#include "cuda/gpu.h"
#include "cuda/request.h"
#include "cuda/runtime.h"
#include "interfaces/clock.h"
#include "interfaces/host_plane.h"

namespace hora::cuda {

struct LaneOptions {
  Duration operation_timeout{};  // an operation on a communicator that takes longer is taken from it
  std::uint64_t fusion_bytes = 0;
};

class Lane final : public PlaneWatcher {
 public:
  // The references outlive it. `context`: where all tensors are.
  static Result<std::unique_ptr<Lane>> start(std::shared_ptr<const Runtime> runtime, ContextHandle context,
                                             HostPlane& plane, MemberId self, const LaneOptions& options,
                                             const Clock& clock, const Log& log);
  // After stop().
  ~Lane() override;

  // --- callers' threads
  // The source is ready after what is on the producer's stream now. Calls of the driver may block while that is full.
  Status submit(Request& request);
  // Returns once streams can be made to wait for the result.
  void wait_enqueued(Request& request);
  // What is enqueued on `stream` from now on sees the result; waits for wait_enqueued() only.
  Status order(Request& request, StreamHandle stream);
  // Wakes with every request that finishes: waits until `done()`, or the deadline.
  template <typename Done>
  bool wait_until(const Done& done, std::optional<TimePoint> deadline) {
    const MutexLock lock(mutex_);
    while (!done()) {
      if (!deadline) {
        finished_.wait(mutex_);
      } else if (finished_.wait_for(mutex_, *deadline - clock_.now()) == std::cv_status::timeout) {
        return done();
      }
    }
    return true;
  }
  // Every request has finished, or the deadline passed: false.
  bool drain(std::optional<TimePoint> deadline);
  // The same, and every member is known to have the results too.
  bool flush(std::optional<TimePoint> deadline);
  [[nodiscard]] ContextHandle context() const noexcept { return gpu_->context(); }
  // Whether the communicator of the installed view stands here. For tests and reports.
  [[nodiscard]] bool communicator_stands() const noexcept { return stands_.load(std::memory_order_relaxed); }

  // What has not finished ends with `cause`. Streams that wait for it go on. The plane runs nothing any more.
  void stop(const Status& cause);

  // --- the sentinel, and whoever drives the engine
  void entered(const View& view) override;
  void told(MemberId from, std::span<const std::byte> message) override;

 private:
  friend class Request;
  friend struct Batch;
  // The agreement of the members about a new communicator, and what becomes of the operations on the last one.
  struct Repair final : Errand {
    explicit Repair(Lane& owner) : lane(owner) {}
    void ended(const Ending& ending) override;
    static constexpr std::size_t kRecordEntries = 5;
    Lane& lane;
    std::array<std::int64_t, kRecordEntries> record{};
  };
  // The unique id of a communicator, from the member that makes it.
  struct Invitation final : Errand {
    Invitation(Lane& owner, Generation named) : lane(owner), generation(named) {}
    void ended(const Ending& ending) override;
    Lane& lane;
    Generation generation;
    NcclUniqueId id{};
  };
  enum class MessageKind : std::uint8_t { lost, question, answer };
  // Between lanes. Lost: the communicator has been given up. Question: say when its operations up to `position` are
  // done at you. Answer: they are.
  struct Message {
    MemberId from;
    MessageKind kind = MessageKind::lost;
    Generation generation = 0;
    std::uint64_t position = 0;
  };
  struct Event {
    std::variant<Request*, Repair*, Invitation*, Batch*> subject;
    Ending ending;
  };
  enum class RepairState : std::uint8_t { none, deciding, agreeing };

  Lane(std::shared_ptr<const Runtime> runtime, HostPlane& plane, MemberId self, const LaneOptions& options,
       const Clock& clock, const Log& log);
  Status prepare(ContextHandle context);

  // lane_calls.cc: callers' threads
  Result<EventHandle> record_ready(StreamHandle producer);
  void doubt() REQUIRES(mutex_);
  Status make_wait(StreamHandle stream, EventHandle copied, DeviceAddress awaited, std::uint32_t value);

  // lane.cc: threads and what they tell each other
  void post(Event event);
  void ring();
  static void ring_from_driver(void* lane) { static_cast<Lane*>(lane)->ring(); }
  void run();
  void handle(Event event);
  void progress();
  [[nodiscard]] std::optional<Duration> longest_nap() const;
  void check_patience();
  void check_device(EventHandle event);
  void break_down(const Status& cause);
  void end_everything();
  void finish(Request& request, const Ending& ending);
  void finish(Batch& batch);
  void give_up();
  [[nodiscard]] bool is_undecided(const Batch& batch) const;
  bool let_streams_go_on();
  bool streams_have_passed();

  // lane_agreement.cc: from requests to batches
  void agree(Request& request);
  void agreed(Request& request, const Ending& ending);
  void form_batches();
  [[nodiscard]] std::optional<Generation> path_of(const Request& request, Status& error) const;
  void add_batch(std::vector<Request*> requests, Generation generation);

  // lane_device.cc: the fast path
  [[nodiscard]] bool usable() const noexcept;
  void enqueue_queued();
  [[nodiscard]] bool has_room(const Batch& batch);
  bool enqueue(Batch& batch);
  Status put_on_streams(Batch& batch, OnStreams& borrowed, bool& launched);
  Status reduce(const Batch& batch, const OnStreams& borrowed, CommunicatorHandle communicator);
  void notice_decisions();
  void set_mirror(Batch& batch, bool done);
  void release_stable();
  void release(Batch& batch);

  // lane_messages.cc: what lanes tell each other beside the log
  void tell_all(MessageKind kind, std::uint64_t position);
  void tell(MemberId to, const Message& message);
  void hear(const Message& message);
  void attend();
  void learn_what_is_stable();
  bool known_everywhere(std::uint64_t position);
  void answer_questions();
  void serve_flush();
  void lose();

  // lane_repair.cc: from one communicator to the next
  void retire_communicator(const char* why);
  void advance_repair();
  void repaired(const Ending& ending);
  void invite();
  void invited(const Invitation& invitation, const Ending& ending);
  void adopt_communicator();
  void let_go_of_communicators();

  // lane_carry.cc: through the host
  Status advance(Batch& batch);
  [[nodiscard]] Result<bool> is_ready(const Batch& batch) const;
  Status fill(Batch& batch);
  void exchange(Batch& batch);
  void exchanged(Batch& batch, const Ending& ending);
  void empty(Batch& batch);
  void end_carrying(Batch& batch);
  [[nodiscard]] static Pieces pieces_of(const Batch& batch, bool targets);
  [[nodiscard]] double divisor_of(const Batch& batch) const {
    return batch.signature.op == ReduceOp::average ? batch.ending.contributors : 1;
  }
  [[nodiscard]] bool is_root(const Batch& batch) const {
    return batch.signature.kind == Collective::broadcast && batch.root == self_;
  }

  const std::shared_ptr<const Runtime> runtime_;
  HostPlane& plane_;
  const MemberId self_;
  const LaneOptions options_;
  const Clock& clock_;
  const Log& log_;
  std::unique_ptr<Gpu> gpu_;
  std::unique_ptr<Ferry> ferry_;
  std::unique_ptr<Builder> builder_;  // null where there is no NCCL

  Mutex mutex_;
  std::condition_variable_any rung_;
  std::condition_variable_any finished_;
  std::vector<Request*> submitted_ GUARDED_BY(mutex_);
  std::deque<Event> events_ GUARDED_BY(mutex_);
  std::vector<View> entered_ GUARDED_BY(mutex_);
  std::vector<EventHandle> ready_events_ GUARDED_BY(mutex_);  // free ones
  std::vector<EventHandle> all_ready_events_ GUARDED_BY(mutex_);
  // Of each stream that was made to wait for a mirror, when it has passed the last one: mirrors must live until then.
  // And of each thread: a handle can stand for another stream in each (CU_STREAM_PER_THREAD).
  std::map<std::pair<StreamHandle, std::thread::id>, EventHandle> passed_ GUARDED_BY(mutex_);
  std::size_t orders_ GUARDED_BY(mutex_) = 0;  // order() is about to make a stream wait
  std::size_t unfinished_ GUARDED_BY(mutex_) = 0;
  std::vector<Message> told_ GUARDED_BY(mutex_);
  std::uint64_t flushes_ GUARDED_BY(mutex_) = 0;  // asked for
  std::uint64_t flushed_ GUARDED_BY(mutex_) = 0;  // ... of which so many have been served
  bool rang_ GUARDED_BY(mutex_) = false;
  bool doubted_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  Status refusal_ GUARDED_BY(mutex_);  // not ok: nothing is taken on any more
  std::atomic<bool> stands_{false};    // written by the lane's thread

  // --- of the lane's thread
  std::map<Epoch, View> views_;                 // those since the last repair
  std::vector<Request*> held_back_;             // submitted before the members have met here
  std::vector<Request*> group_;                 // agreed in one operation, so far
  std::deque<std::unique_ptr<Batch>> batches_;  // in the order of the log
  std::uint64_t next_index_ = 1;
  StreamHandle stream_ = nullptr;  // copy-in, NCCL, copy-out
  StreamHandle notices_ = nullptr;
  EventHandle probe_ = nullptr;         // never recorded: what it says is of the device
  Status broken_;                       // not ok: the device cannot be used, and this rank is leaving the others
  std::uint64_t fusion_bytes_ = 0;      // agreed upon
  std::uint64_t own_fusion_bytes_ = 0;  // what this device has memory for
  // The communicator that all members have agreed to use or build; kept until the next repair has been agreed.
  Generation generation_ = 0;
  Epoch generation_epoch_;
  int generation_size_ = 0;
  std::uint64_t positions_ = 0;  // operations that were agreed to go through it
  std::uint64_t done_ = 0;       // ... decided DONE here
  std::uint64_t stable_ = 0;     // ... known to be DONE at every member
  RepairState repair_state_ = RepairState::none;
  Repair repair_{*this};
  std::vector<std::unique_ptr<Invitation>> invitations_;
  std::vector<Message> questions_;   // not answered yet
  std::optional<Message> question_;  // asked by this lane
  std::vector<MemberId> answers_;
  std::thread thread_;
};

}  // namespace hora::cuda
