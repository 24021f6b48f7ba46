// What lanes tell each other beside the log of operations: that a communicator has failed, and what each one has.
#include <algorithm>

#include "base/wire.h"
#include "cuda/lane.h"

namespace hora::cuda {

void Lane::told(MemberId from, std::span<const std::byte> bytes) {
  wire::Reader in(bytes);
  Message message{from};
  message.kind = static_cast<MessageKind>(in.below(3));
  message.generation = static_cast<Generation>(in.u64());
  message.position = in.u64();
  if (!in.finished()) return log_(LogLevel::warn, "cuda", "member {:x} sent a malformed message", from.value);
  const MutexLock lock(mutex_);
  told_.push_back(message);
  rang_ = true;
  rung_.notify_one();
}

void Lane::tell(MemberId to, const Message& message) {
  wire::Writer out;
  out.u8(static_cast<std::uint8_t>(message.kind));
  out.u64(static_cast<std::uint64_t>(message.generation));
  out.u64(message.position);
  plane_.tell(to, out.take());
}

void Lane::tell_all(MessageKind kind) {
  for (const Member& member : views_.at(generation_epoch_).members)
    if (member.id != self_) tell(member.id, {self_, kind, generation_, positions_});
}

void Lane::hear(const Message& message) {
  if (message.kind == MessageKind::question) {
    questions_.push_back(message);
  } else if (message.kind == MessageKind::lost) {
    if (message.generation == generation_ && communicator_) lost_ = true;
  } else if (question_ && message.generation == question_->generation && message.position == question_->position) {
    answers_.push_back(message.from);
  }
}

// Gives the communicator up, and has the others do so: they may wait in it for this one.
void Lane::lose() {
  lost_ = true;
  tell_all(MessageKind::lost);
  ring();
}

void Lane::answer_questions() {
  std::erase_if(questions_, [this](const Message& question) {
    // What was on an older communicator has been agreed upon, and the host brings it to an end.
    const bool has =
        generation_ > question.generation || (generation_ == question.generation && done_ >= question.position);
    if (has) tell(question.from, {self_, MessageKind::answer, question.generation, question.position});
    return has;
  });
}

bool Lane::drain(std::optional<TimePoint> deadline) {
  return wait_until([this] { return unfinished_ == 0; }, deadline);
}

bool Lane::flush(std::optional<TimePoint> deadline) {
  if (!drain(deadline)) return false;
  std::uint64_t own = 0;
  {
    const MutexLock lock(mutex_);
    own = ++flushes_;
    rang_ = true;
    rung_.notify_one();
  }
  return wait_until([this, own] { return flushed_ >= own || stopping_; }, deadline);
}

// Results on the communicator are retained here until all have them; what the host carries it looks after itself.
void Lane::serve_flush() {
  std::uint64_t wanted = 0;
  {
    const MutexLock lock(mutex_);
    wanted = flushes_;
    if (wanted == flushed_) return;
  }
  const auto rests = [this](const auto& batch) {
    return batch->state == BatchState::held && batch->generation == generation_;
  };
  if (!std::ranges::all_of(batches_, rests)) return;
  const bool alone = generation_ == 0 || generation_size_ == 1;
  if (!alone && stable_ < positions_) {
    if (!question_ || question_->generation != generation_ || question_->position != positions_) {
      question_ = Message{self_, MessageKind::question, generation_, positions_};
      answers_.clear();
      tell_all(MessageKind::question);
    }
    for (const Member& member : views_.at(generation_epoch_).members)
      if (member.id != self_ && std::ranges::find(answers_, member.id) == answers_.end()) return;
    stable_ = positions_;
  }
  question_.reset();
  const MutexLock lock(mutex_);
  flushed_ = wanted;
  finished_.notify_all();
}

}  // namespace hora::cuda
