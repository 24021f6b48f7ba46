// flush(): waits until every member is known to hold what this one has released (STABLE, protocol law 4).
//
// Members that share memory see it. Otherwise the knowledge rides on later operations; a flush does not wait for those
// but asks, and who is asked answers once it has ended as much. Only a new view waives a member.
#include "engine/driving.h"
#include "engine/engine.h"

namespace hora::engine {

namespace {

enum class FlushMessage : std::uint8_t { question, answer };

wire::Bytes encode(FlushMessage kind, const Positions& positions) {
  wire::Writer out;
  out.u8(static_cast<std::uint8_t>(kind));
  for (const std::uint64_t position : positions) out.u64(position);
  return out.take();
}

bool reaches(const Positions& held, const Positions& wanted) {
  return std::equal(held.begin(), held.end(), wanted.begin(), std::greater_equal<>());
}

}  // namespace

void Engine::flush() {
  throw_if_fenced();
  if (!wait_stable(std::nullopt)) throw_if_fenced();
}

bool Engine::wait_stable(std::optional<TimePoint> deadline) {
  if (!flush_turn_.acquire_until(clock_, deadline)) return false;
  const bool stable = await_stable(deadline);
  flush_turn_.release();
  return stable;
}

bool Engine::await_stable(std::optional<TimePoint> deadline) noexcept {
  if (!take_token([this] { return fenced_.load(std::memory_order_acquire); }, deadline, Purpose::begin)) return false;
  const Positions released = ended();
  release_token();
  std::set<MemberId> asked;  // in the view `asked_in`: a question may be lost with a view
  std::uint64_t asked_in = 0;
  while (true) {
    const std::uint32_t answers = answers_.load(std::memory_order_seq_cst);
    const std::uint64_t epoch = installed_epoch_.load(std::memory_order_seq_cst);
    const auto news = [&] {
      return answers_.load(std::memory_order_seq_cst) != answers || fenced_.load(std::memory_order_acquire) ||
             installed_epoch_.load(std::memory_order_seq_cst) != epoch;
    };
    if (std::exchange(asked_in, epoch) != epoch) asked.clear();
    bool held = false;
    if (take_token(news, deadline, Purpose::begin)) {
      held = is_stable(released) || !ask_what_is_held(released, asked);
      if (!held) drive([&] { return news() || is_stable(released); }, deadline);
      release_token();
    }
    if (held) return true;
    if (fenced_.load(std::memory_order_acquire) || (deadline && clock_.now() >= *deadline)) return false;
  }
}

Positions Engine::ended() noexcept {
  Positions positions{};
  for (const Channel channel : kChannels) {
    // Not one less than the last number: that may be of a broken operation, while the one before it is active.
    const Execution& execution = this->execution(channel);
    positions[static_cast<std::size_t>(channel)] =
        execution.active ? execution.operation.sequence - 1 : sequence(channel);
  }
  return positions;
}

bool Engine::is_stable(const Positions& positions) const {
  return std::all_of(std::begin(kChannels), std::end(kChannels), [&](Channel channel) {
    return transport_.stable(channel) >= positions[static_cast<std::size_t>(channel)];
  });
}

// Asks the members that were not asked yet. False when all have answered.
bool Engine::ask_what_is_held(const Positions& positions, std::set<MemberId>& asked) {
  bool missing = false;
  for (const Member& member : view_.members) {
    if (member.id == self_) continue;
    {
      const MutexLock lock(inbox_mutex_);
      if (const auto held = held_.find(member.id); held != held_.end() && reaches(held->second, positions)) continue;
    }
    missing = true;
    if (!asked.insert(member.id).second) continue;
    if (const Status status = flush_link_.send(member.id, encode(FlushMessage::question, positions)); !status.ok())
      log_(LogLevel::warn, "flush", "{}", status.message());
  }
  return missing;
}

void Engine::answer_flush_questions() {
  const Positions positions = ended();
  std::erase_if(flush_questions_, [&](const auto& question) {
    const auto& [from, wanted] = question;
    if (!reaches(positions, wanted)) return false;
    if (const Status status = flush_link_.send(from, encode(FlushMessage::answer, wanted)); !status.ok())
      log_(LogLevel::warn, "flush", "{}", status.message());
    return true;
  });
}

void Engine::on_flush_message(MemberId from, std::span<const std::byte> message) {
  wire::Reader in(message);
  const auto kind = static_cast<FlushMessage>(in.below(2));
  Positions positions{};
  for (std::uint64_t& position : positions) position = in.u64();
  if (!in.finished()) return log_(LogLevel::warn, "flush", "member {:x} sent a malformed message", from.value);
  {
    const MutexLock lock(inbox_mutex_);
    if (kind == FlushMessage::answer) {
      Positions& held = held_[from];
      for (std::size_t i = 0; i < held.size(); ++i) held[i] = std::max(held[i], positions[i]);
      answers_.fetch_add(1, std::memory_order_seq_cst);
    } else {
      asked_.emplace_back(from, positions);
      inbox_filled_.store(true, std::memory_order_seq_cst);  // seq_cst: see unattended_work() and sleep_unless()
    }
  }
  wake_driver();
  wake_background();
}

}  // namespace hora::engine
