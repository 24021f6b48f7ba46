#include "launch/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hora::launch {

std::string describe(const Exit& exit) {
  if (exit.lost) return "was lost with its host";
  if (exit.signal == 0) return fmt::format("exited with status {}", exit.code);
  const char* name = ::sigabbrev_np(exit.signal);
  return name == nullptr ? fmt::format("was killed by signal {}", exit.signal)
                         : fmt::format("was killed by SIG{}", name);
}

Duration replacement_delay(int quick_failures) {
  if (quick_failures <= 0) return Duration::zero();
  constexpr int kDoublingsMax = 6;
  const Duration delay = std::chrono::milliseconds(100) * (1 << std::min(quick_failures - 1, kDoublingsMax));
  return std::min<Duration>(delay, std::chrono::seconds(5));
}

void Outcome::ended(int slot, const Exit& exit, bool asked) {
  at(slot) = {exit.success() ? State::succeeded : State::failed, exit, exit.success() ? 0 : ++failures_,
              !asked && !exit.own()};
  if (exit.success() || running() == 0) give_up_all();
}

bool Outcome::replaceable(int slot) const {
  return at(slot).state == State::failed && restarts_ < limits_.restarts && running() > 0 &&
         count(State::succeeded) == 0;
}

void Outcome::await(int slot) {
  at(slot).state = State::awaited;
  ++restarts_;
}

void Outcome::started(int slot) {
  at(slot).state = State::running;
}

void Outcome::give_up(int slot) {
  if (awaited(slot)) at(slot).state = State::failed;
}

void Outcome::give_up_all() {
  for (int slot = 0; slot < limits_.ranks; ++slot) give_up(slot);
}

int Outcome::count(State state) const {
  return static_cast<int>(
      std::count_if(slots_.begin(), slots_.end(), [&](const Slot& slot) { return slot.state == state; }));
}

bool Outcome::hopeless() const {
  return count(State::succeeded) + running() + count(State::awaited) < limits_.min_ranks;
}

int Outcome::status() const {
  if (count(State::succeeded) >= limits_.min_ranks) return 0;
  const auto before = [](const Slot& one, const Slot& other) {
    return one.struck != other.struck ? one.struck : one.failure_number < other.failure_number;
  };
  const Slot* first = nullptr;
  for (const Slot& slot : slots_)
    if (slot.state == State::failed && (first == nullptr || before(slot, *first))) first = &slot;
  return first == nullptr ? 0 : first->exit.status();
}

}  // namespace hora::launch
