// What becomes of a job from how its processes end: which are replaced, when it is lost, what its exit status is. Pure:
// the rules of `hora run`.
//
// A job has as many slots as founding ranks. A slot holds one process at a time: a founder, then the replacements of
// whoever died in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/time.h"

namespace hora::launch {

// How a process ended.
struct Exit {
  int code = 0;    // its exit status, where signal is 0
  int signal = 0;  // what killed it
  // Nobody saw it end: the connection to its host was lost. Its status is 255, as that of a remote shell.
  bool lost = false;
  [[nodiscard]] bool success() const noexcept { return code == 0 && signal == 0 && !lost; }
  // It said by itself how it ended: not killed, not lost.
  [[nodiscard]] bool own() const noexcept { return signal == 0 && !lost; }
  // As a shell tells it: the exit status, or 128 + signal.
  [[nodiscard]] int status() const noexcept { return lost ? 255 : signal != 0 ? 128 + signal : code; }
  friend bool operator==(const Exit&, const Exit&) = default;
};

// "was killed by SIGKILL", "exited with status 1" or "was lost with its host".
std::string describe(const Exit& exit);

// How long a replacement waits that follows so many replacements in its slot that failed soon after their start: none
// does for the first, then 100 ms, doubling up to 5 s. What fails at once would otherwise use up all restarts, and the
// machine, before anything can have changed.
Duration replacement_delay(int quick_failures);

class Outcome {
 public:
  struct Limits {
    int ranks = 1;
    int min_ranks = 1;  // the job succeeds if so many slots end with 0
    int restarts = 0;   // replacements in all
  };

  explicit Outcome(const Limits& limits) : limits_(limits), slots_(static_cast<std::size_t>(limits.ranks)) {}

  // The process in `slot` has ended; `asked`: because the job asked or killed it. Replacements that are awaited are
  // given up when it was the last that ran, for nobody holds the job's state any more, or when it succeeded, for the
  // job is ending.
  void ended(int slot, const Exit& exit, bool asked = false);
  // Whether who failed in `slot` may be replaced: a restart is left, and there is a job to join.
  [[nodiscard]] bool replaceable(int slot) const;
  // It will be: a restart is used. Precondition: replaceable.
  void await(int slot);
  // The replacement runs.
  void started(int slot);
  // It will not come.
  void give_up(int slot);
  void give_up_all();

  [[nodiscard]] bool running(int slot) const { return at(slot).state == State::running; }
  [[nodiscard]] bool awaited(int slot) const { return at(slot).state == State::awaited; }
  [[nodiscard]] int running() const { return count(State::running); }
  [[nodiscard]] int restarts() const noexcept { return restarts_; }
  // Neither runs a process, nor is one awaited.
  [[nodiscard]] bool over() const { return running() + count(State::awaited) == 0; }
  // Even if all that run or are awaited succeed, they are too few.
  [[nodiscard]] bool hopeless() const;
  // 0, or the status of the first process that failed and was not replaced. Who was killed or lost, and not because the
  // job asked, goes before who exited: survivors that find themselves too few exit at once, while the end of a large
  // process is seen only when its memory is freed. Precondition: over or hopeless.
  [[nodiscard]] int status() const;

 private:
  enum class State : std::uint8_t { running, awaited, succeeded, failed };
  struct Slot {
    State state = State::running;
    Exit exit;               // of the last process that ended in it
    int failure_number = 0;  // in which order slots failed
    bool struck = false;     // it was killed or lost, and not because the job asked
  };

  [[nodiscard]] const Slot& at(int slot) const { return slots_[static_cast<std::size_t>(slot)]; }
  [[nodiscard]] Slot& at(int slot) { return slots_[static_cast<std::size_t>(slot)]; }
  [[nodiscard]] int count(State state) const;

  Limits limits_;
  std::vector<Slot> slots_;
  int restarts_ = 0;
  int failures_ = 0;
};

}  // namespace hora::launch
