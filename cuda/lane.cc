// The lane's thread, what wakes it, and what callers ask of it.
#include "cuda/lane.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace hora::cuda {

namespace {
// While operations are on a communicator, which may fail silently.
constexpr std::chrono::seconds kLongestNap{1};
// While a tensor that the host is to carry may become ready, or a stream may pass: of neither the driver tells.
constexpr std::chrono::microseconds kShortestNap{250};
constexpr std::chrono::seconds kLongestFarewell{10};  // for streams that end at shutdown
}  // namespace

Result<std::unique_ptr<Lane>> Lane::start(std::shared_ptr<const Runtime> runtime, ContextHandle context,
                                          HostPlane& plane, MemberId self, const LaneOptions& options,
                                          const Clock& clock, const Log& log) {
  std::unique_ptr<Lane> lane(new Lane(std::move(runtime), plane, self, options, clock, log));
  HORA_TRY(lane->prepare(context));
  Lane* started = lane.get();
  lane->thread_ = std::thread([started] {
    pthread_setname_np(pthread_self(), "hora-device");
    started->run();
  });
  return lane;
}

Lane::Lane(std::shared_ptr<const Runtime> runtime, HostPlane& plane, MemberId self, const LaneOptions& options,
           const Clock& clock, const Log& log)
    : runtime_(std::move(runtime)), plane_(plane), self_(self), options_(options), clock_(clock), log_(log) {}

Lane::~Lane() {
  if (gpu_ == nullptr) return;
  const CurrentContext current(runtime_->driver, gpu_->context());
  for (const EventHandle event : all_ready_events_) runtime_->driver.event_destroy(event);
}

Status Lane::prepare(ContextHandle context) {
  auto gpu = Gpu::open(runtime_->driver, runtime_->kernels, context);
  if (!gpu.ok()) return gpu.status();
  gpu_ = std::move(gpu).value();
  const CurrentContext current(runtime_->driver, context);
  HORA_TRY(current.status());
  for (StreamHandle* const slot : {&stream_, &notices_}) {
    auto stream = gpu_->make_stream();
    if (!stream.ok()) return stream.status();
    *slot = stream.value();
  }
  auto probe = gpu_->take_event();
  if (!probe.ok()) return probe.status();
  probe_ = probe.value();
  auto ferry = Ferry::open(*gpu_, &Lane::ring_from_driver, this);
  if (!ferry.ok()) return ferry.status();
  ferry_ = std::move(ferry).value();
  fusion_bytes_ = own_fusion_bytes_ = options_.fusion_bytes;
  if (runtime_->nccl)
    builder_ = std::make_unique<Builder>(
        *runtime_->nccl, *gpu_, [this] { ring(); }, clock_, log_);
  else
    log_(LogLevel::info, "cuda", "no NCCL, so device memory goes through the host: {}", runtime_->nccl_absence);
  return {};
}

void Lane::ring() {
  const MutexLock lock(mutex_);
  rang_ = true;
  rung_.notify_one();
}

void Lane::post(Event event) {
  const MutexLock lock(mutex_);
  events_.push_back(std::move(event));
  rang_ = true;
  rung_.notify_one();
}

void Request::ended(const Ending& ending) {
  lane_->post({this, ending});
}
void Batch::ended(const Ending& result) {
  lane.post({this, result});
}
void Lane::Repair::ended(const Ending& ending) {
  lane.post({this, ending});
}
void Lane::Invitation::ended(const Ending& ending) {
  lane.post({this, ending});
}

void Lane::run() {
  if (const Status status = gpu_->enter(); !status.ok()) break_down(status);
  while (true) {
    std::vector<Request*> requests;
    std::deque<Event> events;
    std::vector<Message> messages;
    bool doubted = false;
    {
      const auto nap = longest_nap();
      const MutexLock lock(mutex_);
      while (!rang_ && !stopping_) {
        if (!nap)
          rung_.wait(mutex_);
        else if (rung_.wait_for(mutex_, *nap) == std::cv_status::timeout)
          break;
      }
      rang_ = false;
      doubted = std::exchange(doubted_, false);
      if (stopping_) break;
      requests.swap(submitted_);
      events.swap(events_);
      for (View& view : entered_) views_[view.epoch] = std::move(view);
      entered_.clear();
      messages.swap(told_);
    }
    for (Event& event : events) handle(std::move(event));
    for (const Message& message : messages) hear(message);
    held_back_.insert(held_back_.end(), requests.begin(), requests.end());
    if (doubted) check_device(probe_);
    progress();
  }
  give_up();
}

// Nothing: until something is told.
std::optional<Duration> Lane::longest_nap() const {
  const auto is = [](BatchState state) { return [state](const auto& batch) { return batch->state == state; }; };
  if (!broken_.ok())
    return std::ranges::any_of(batches_, is(BatchState::enqueued)) ? std::optional(kLongestNap) : std::nullopt;
  if (std::ranges::any_of(batches_, is(BatchState::waiting)) || (builder_ && !builder_->is_clear()))
    return kShortestNap;
  if (ferry_->moves() || std::ranges::any_of(batches_, is(BatchState::enqueued))) return kLongestNap;
  return std::nullopt;
}

void Lane::handle(Event event) {
  if (auto* request = std::get_if<Request*>(&event.subject)) {
    agreed(**request, event.ending);
  } else if (auto* batch = std::get_if<Batch*>(&event.subject)) {
    exchanged(**batch, event.ending);
  } else if (auto* invitation = std::get_if<Invitation*>(&event.subject)) {
    invited(**invitation, event.ending);
  } else {
    form_batches();  // what was agreed before
    repaired(event.ending);
  }
  if (!event.ending.more) form_batches();
}

void Lane::progress() {
  if (!broken_.ok()) return end_everything();
  notice_decisions();
  learn_what_is_stable();
  release_stable();
  if (generation_ != 0 && builder_ && builder_->is_doomed(generation_) && views_.rbegin()->first == generation_epoch_)
    retire_communicator("it failed");
  else if (!views_.empty() && views_.rbegin()->first > generation_epoch_)
    retire_communicator("the view changed");
  advance_repair();
  adopt_communicator();
  // Nothing is agreed before the members have met here once: a newcomer then knows the numbers of operations.
  if (generation_ != 0)
    for (Request* request : std::exchange(held_back_, {})) agree(*request);
  enqueue_queued();
  Status carried = ferry_->advance();
  for (const auto& batch : batches_)
    if (carried.ok()) carried = advance(*batch);
  if (carried.ok()) carried = ferry_->advance();
  if (!carried.ok()) break_down(carried);
  check_patience();
  if (!broken_.ok()) return end_everything();
  std::erase_if(batches_, [](const auto& batch) { return batch->state == BatchState::ended; });
  let_go_of_communicators();
  answer_questions();
  serve_flush();
}

// What a device has failed at it tells to those who ask only.
void Lane::check_device(EventHandle event) {
  const DriverCode code = runtime_->driver.event_query(event);
  if (code != kDriverSuccess && code != kDriverNotReady)
    break_down(driver_status(runtime_->driver, code, "event_query"));
}

// What is on a communicator that hangs or has failed without anybody's death is taken from it.
void Lane::check_patience() {
  const auto oldest =
      std::ranges::find_if(batches_, [](const auto& batch) { return batch->state == BatchState::enqueued; });
  if (oldest == batches_.end()) return;
  const OnStreams& there = *(*oldest)->on_streams;
  check_device(there.copied);
  if (!broken_.ok() || !usable()) return;
  NcclCode state = kNcclSuccess;
  if (const Builder::Use use(*builder_, generation_); use) runtime_->nccl->communicator_state((*use).handle, &state);
  if (state != kNcclSuccess && state != kNcclInProgress) {
    log_(LogLevel::warn, "nccl", "the communicator failed: {}", runtime_->nccl->error_text(state));
    lose();
  } else if (clock_.now() - there.since > options_.operation_timeout) {
    log_(LogLevel::warn, "nccl",
         "device operation #{} has not ended on the communicator within the operation timeout "
         "(HORA_OPERATION_TIMEOUT_MS); the host carries it",
         (*oldest)->index);
    lose();
  }
}

// The device does not do what it is told, so this rank cannot do its part any more: the others must not wait for it.
void Lane::break_down(const Status& cause) {
  if (!broken_.ok()) return;
  broken_ =
      Status(StatusCode::resource,
             fmt::format("this rank leaves, for it cannot do its part of device operations: {}", cause.message()));
  if (builder_) builder_->doom(std::numeric_limits<Generation>::max());
  {
    const MutexLock lock(mutex_);
    refusal_ = broken_;
    finished_.notify_all();
  }
  plane_.resign(broken_);
  ring();
}

// But what the host's plane has: it gives that back with an error, now that this rank has resigned. And what the device
// still decides, which it will soon, as the communicators are given up.
void Lane::end_everything() {
  notice_decisions();
  for (const auto& batch : batches_) {
    if (batch->state == BatchState::exchanging || batch->state == BatchState::ended || is_undecided(*batch)) continue;
    if (batch->on_streams && batch->state != BatchState::held) set_mirror(*batch, false);
    batch->ending.status = broken_;
    finish(*batch);
    batch->state = BatchState::ended;
  }
  std::erase_if(batches_, [](const auto& batch) { return batch->state == BatchState::ended; });
  for (Request* request : std::exchange(group_, {})) finish(*request, {broken_, generation_epoch_, 0, false});
  for (Request* request : std::exchange(held_back_, {})) finish(*request, {broken_, generation_epoch_, 0, false});
}

void Lane::finish(Request& request, const Ending& ending) {
  {
    const MutexLock lock(mutex_);
    request.stage_ = Request::Stage::finished;
    ready_events_.push_back(std::exchange(request.ready_, nullptr));
  }
  request.finished(ending);
  const MutexLock lock(mutex_);
  --unfinished_;
  finished_.notify_all();
}

void Lane::finish(Batch& batch) {
  for (Request* request : std::exchange(batch.requests, {})) finish(*request, batch.ending);
}

// At the end: streams that wait for a mirror go on, callers are told, and nothing of the library is on the device.
void Lane::give_up() {
  Ending ending;
  {
    const MutexLock lock(mutex_);
    ending.status = refusal_;
    for (Request* request : submitted_) held_back_.push_back(request);
    submitted_.clear();
    for (const Event& event : events_)
      if (const auto* request = std::get_if<Request*>(&event.subject)) held_back_.push_back(*request);
  }
  if (builder_) builder_->doom(std::numeric_limits<Generation>::max());
  const TimePoint deadline = clock_.now() + kLongestFarewell;
  bool left = true;
  while (left && clock_.now() < deadline) {
    notice_decisions();
    left = let_streams_go_on();
    left = !streams_have_passed() || left;
    const MutexLock lock(mutex_);
    if (left && !rang_) rung_.wait_for(mutex_, kShortestNap);
    rang_ = false;
  }
  for (const auto& batch : batches_) batch->ending = ending, finish(*batch);
  for (Request* request : std::exchange(group_, {})) finish(*request, ending);
  for (Request* request : std::exchange(held_back_, {})) finish(*request, ending);
  if (left) {
    log_(LogLevel::error, "cuda", "streams of the device did not end within 10 s; what they use is left to the driver");
    (void)builder_.release();
    (void)gpu_.release();
    return;
  }
  builder_.reset();  // an abort may wait for what is on the stream, and that for the abort
  (void)runtime_->driver.stream_synchronize(stream_);
  (void)runtime_->driver.stream_synchronize(notices_);
}

bool Lane::streams_have_passed() {
  std::vector<EventHandle> passed;
  {
    const MutexLock lock(mutex_);
    if (orders_ > 0) return false;
    for (const auto& [stream, event] : passed_) passed.push_back(event);
  }
  return std::ranges::none_of(
      passed, [this](EventHandle event) { return runtime_->driver.event_query(event) == kDriverNotReady; });
}

// Its copy-out will run, and the device's copy of the decision would take back what the host writes before. On a device
// that is lost nothing runs.
bool Lane::is_undecided(const Batch& batch) const {
  if (batch.state != BatchState::enqueued) return false;
  const DriverCode code = runtime_->driver.event_query(batch.on_streams->copied);
  return code == kDriverSuccess || code == kDriverNotReady;
}

// Ends the mirror of whatever is not going to be decided any more. True while something is on its way.
bool Lane::let_streams_go_on() {
  if (broken_.ok() && ferry_->advance().ok() && ferry_->moves()) return true;
  bool left = false;
  for (const auto& batch : batches_) {
    const bool undecided = is_undecided(*batch);
    if (!undecided && batch->on_streams && batch->on_streams->held != batch->on_streams->word.done())
      set_mirror(*batch, false);
    left = left || undecided;
  }
  return left;
}

}  // namespace hora::cuda
