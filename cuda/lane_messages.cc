// What lanes tell each other beside the log of operations: that a communicator has failed, and what each one has.
#include <algorithm>
#include <utility>

#include "base/wire.h"
#include "cuda/lane.h"

namespace hora::cuda {

void Lane::tell(MemberId to, const Message& message) {
  wire::Writer out;
  out.u8(static_cast<std::uint8_t>(message.kind));
  out.u64(static_cast<std::uint64_t>(message.generation));
  out.u64(message.position);
  plane_.tell(to, out.take());
}

void Lane::tell_all(MessageKind kind, std::uint64_t position) {
  for (const Member& member : views_.at(generation_epoch_).members)
    if (member.id != self_) tell(member.id, {self_, kind, generation_, position});
}

void Lane::hear(const Message& message) {
  if (message.kind == MessageKind::question)
    questions_.push_back(message);
  else if (question_ && message.generation == question_->generation && message.position == question_->position)
    answers_.push_back(message.from);
}

// Gives the communicator up, and has the others do so: they may wait in it for this one.
void Lane::lose() {
  builder_->doom(generation_);
  tell_all(MessageKind::lost, 0);
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

// While this thread waits inside of NCCL: others may need an answer before they come there.
void Lane::attend() {
  std::vector<Message> messages;
  {
    const MutexLock lock(mutex_);
    messages.swap(told_);
  }
  for (const Message& message : messages) hear(message);
  notice_decisions();
  answer_questions();
}

// Takes over what the others have told of what they have.
void Lane::learn_what_is_stable() {
  if (generation_ == 0 || generation_size_ == 1) stable_ = done_;
  const auto answered = [this](const Member& member) {
    return member.id == self_ || std::ranges::find(answers_, member.id) != answers_.end();
  };
  if (question_ && question_->generation != generation_) question_.reset();
  if (question_ && std::ranges::all_of(views_.at(generation_epoch_).members, answered))
    stable_ = std::max(stable_, std::exchange(question_, std::nullopt)->position);
}

// Whether all members are known to have what was enqueued on the communicator up to `position`; asks them otherwise.
bool Lane::known_everywhere(std::uint64_t position) {
  learn_what_is_stable();
  if (stable_ >= position) return true;
  if (question_) return false;  // one after another
  question_ = Message{self_, MessageKind::question, generation_, position};
  answers_.clear();
  tell_all(MessageKind::question, position);
  return false;
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
  if (!std::ranges::all_of(batches_, rests) || !known_everywhere(positions_)) return;
  const MutexLock lock(mutex_);
  flushed_ = wanted;
  finished_.notify_all();
}

}  // namespace hora::cuda
