// The lane's thread, what wakes it, and what callers ask of it.
#include "cuda/lane.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace hora::cuda {

namespace {
constexpr std::chrono::milliseconds kLongestNap{
    1000};                                            // while operations are on a communicator, which may fail silently
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
  for (const EventHandle event : all_ready_events_) runtime_->driver.event_destroy(event);
}

Status Lane::prepare(ContextHandle context) {
  auto gpu = Gpu::open(runtime_->driver, runtime_->kernels, context);
  if (!gpu.ok()) return gpu.status();
  gpu_ = std::move(gpu).value();
  auto stream = gpu_->take_stream();
  if (!stream.ok()) return stream.status();
  stream_ = stream.value();
  auto notices = gpu_->take_stream();
  if (!notices.ok()) return notices.status();
  notices_ = notices.value();
  if (runtime_->nccl)
    builder_ = std::make_unique<Builder>(
        *runtime_->nccl, *gpu_, [this] { ring(); }, log_);
  else
    log_(LogLevel::info, "cuda", "no NCCL, so device memory goes through the host: {}", runtime_->nccl_absence);
  return {};
}

Status Lane::submit(Request& request) {
  const Driver& driver = runtime_->driver;
  const MutexLock lock(mutex_);
  if (stopping_) return stop_cause_;
  if (ready_events_.empty()) {
    EventHandle event = nullptr;
    HORA_DRIVER_TRY(driver, event_create, &event, kEventWithoutTiming);
    all_ready_events_.push_back(event);
    ready_events_.push_back(event);
  }
  HORA_DRIVER_TRY(driver, event_record, ready_events_.back(), request.producer);
  request.lane_ = this;
  request.ready_ = ready_events_.back();
  request.stage_ = Request::Stage::submitted;
  ready_events_.pop_back();
  ++unfinished_;
  submitted_.push_back(&request);
  rang_ = true;
  rung_.notify_one();
  return {};
}

void Lane::wait_enqueued(Request& request) {
  wait_until([&] { return request.stage_ != Request::Stage::submitted; }, std::nullopt);
}

Status Lane::order(Request& request, StreamHandle stream) {
  wait_enqueued(request);
  const Driver& driver = runtime_->driver;
  const MutexLock lock(mutex_);
  if (request.stage_ == Request::Stage::finished) return {};
  // The event first: it tells the device's scheduler of the order, and on the fast path the word has then been set.
  HORA_DRIVER_TRY(driver, stream_wait_event, stream, request.copied_, 0);
  HORA_DRIVER_TRY(driver, stream_wait_value, stream, request.word_, request.word_ended_, kWaitValueAtLeast);
  return {};
}

void Lane::entered(const View& view) {
  const MutexLock lock(mutex_);
  entered_.push_back(view);
  entered_epoch_.store(view.epoch.value, std::memory_order_release);  // release: it is read without the lock
  rang_ = true;
  rung_.notify_one();
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
  if (const Status status = gpu_->enter(); !status.ok()) log_(LogLevel::error, "cuda", "{}", status.message());
  while (true) {
    std::vector<Request*> requests;
    std::deque<Event> events;
    std::vector<Message> messages;
    {
      const bool watches =
          std::ranges::any_of(batches_, [](const auto& batch) { return batch->state == BatchState::enqueued; });
      const MutexLock lock(mutex_);
      while (!rang_ && !stopping_) {
        if (!watches)
          rung_.wait(mutex_);
        else if (rung_.wait_for(mutex_, kLongestNap) == std::cv_status::timeout)
          break;
      }
      rang_ = false;
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
    progress();
  }
  give_up();
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
  notice_decisions();
  if (lost_ || (!views_.empty() && views_.rbegin()->first > generation_epoch_))
    retire_communicator(lost_ ? "it failed" : "the view changed");
  advance_repair();
  if (builder_ && !communicator_ && !lost_ && repair_state_ == RepairState::none) {
    if (const auto standing = builder_->standing(); standing && standing->generation == generation_) {
      communicator_ = standing->handle;
      log_(LogLevel::info, "nccl", "a communicator of {} ranks stands (epoch {})", generation_size_,
           generation_epoch_.value);
    }
  }
  stands_.store(communicator_.has_value(), std::memory_order_relaxed);
  // Nothing is agreed before the members have met here once: a newcomer then knows the numbers of operations.
  if (generation_ != 0)
    for (Request* request : std::exchange(held_back_, {})) agree(*request);
  for (const auto& batch : batches_) advance(*batch);
  std::erase_if(batches_, [](const auto& batch) { return batch->state == BatchState::ended; });
  answer_questions();
  serve_flush();
  check_patience();
}

// What is on a communicator that hangs or has failed without anybody's death is taken from it.
void Lane::check_patience() {
  if (!communicator_ || lost_) return;
  const auto oldest =
      std::ranges::find_if(batches_, [](const auto& batch) { return batch->state == BatchState::enqueued; });
  if (oldest == batches_.end()) return;
  NcclCode state = kNcclSuccess;
  runtime_->nccl->communicator_state(*communicator_, &state);
  if (state != kNcclSuccess && state != kNcclInProgress) {
    log_(LogLevel::warn, "nccl", "the communicator failed: {}", runtime_->nccl->error_text(state));
    lose();
  } else if (clock_.now() - (*oldest)->since > options_.operation_timeout) {
    log_(LogLevel::warn, "nccl",
         "device operation #{} has not ended on the communicator within the operation timeout "
         "(HORA_OPERATION_TIMEOUT_MS); the host carries it",
         (*oldest)->index);
    lose();
  }
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

void Lane::stop(const Status& cause) {
  {
    const MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    stop_cause_ = cause;
    rung_.notify_one();
    finished_.notify_all();
  }
  thread_.join();
}

// At the end: streams that wait for a word go on, callers are told, and nothing of the library is on the device.
void Lane::give_up() {
  Ending ending;
  {
    const MutexLock lock(mutex_);
    ending.status = stop_cause_;
    for (Request* request : submitted_) held_back_.push_back(request);
    submitted_.clear();
    for (const Event& event : events_)
      if (const auto* request = std::get_if<Request*>(&event.subject)) held_back_.push_back(*request);
  }
  if (abort_flag_ != nullptr) std::atomic_ref(*abort_flag_).store(1, std::memory_order_release);
  if (builder_) builder_->abort();
  const auto farewell = gpu_->take_stream();
  const TimePoint deadline = clock_.now() + kLongestFarewell;
  bool left = farewell.ok();
  while (left && clock_.now() < deadline) {
    notice_decisions();
    left = let_streams_go_on(farewell.value());
    const MutexLock lock(mutex_);
    if (left && !rang_) rung_.wait_for(mutex_, kLongestNap / 10);
    rang_ = false;
  }
  if (farewell.ok() && !left) (void)runtime_->driver.stream_synchronize(farewell.value());
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

// Sets the word of whatever is not going to be decided any more. True while something is on its way.
bool Lane::let_streams_go_on(StreamHandle stream) {
  bool left = false;
  for (const auto& batch : batches_) {
    const BatchState state = batch->state;
    const bool moves = state == BatchState::enqueued || state == BatchState::filling || state == BatchState::emptying;
    if (moves && (state == BatchState::enqueued || state_of(batch->moved) == kDriverNotReady)) left = true;
    if (!batch->on_streams || moves || state == BatchState::held || state == BatchState::ended) continue;
    (void)copy_out(*batch, {&flags_[0], batch->word->frozen(), batch->word->broken()}, false, stream);
    batch->on_streams = false;
  }
  return left;
}

}  // namespace hora::cuda
