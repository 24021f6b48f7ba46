// What a job's exit status is, from how its ranks ended. Pure: the rule of `hora run`.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace hora::launch {

// How a process ended.
struct Exit {
  int code = 0;    // its exit status, where signal is 0
  int signal = 0;  // what killed it
  [[nodiscard]] bool success() const noexcept { return code == 0 && signal == 0; }
  // As a shell tells it: the exit status, or 128 + signal.
  [[nodiscard]] int status() const noexcept { return signal != 0 ? 128 + signal : code; }
  friend bool operator==(const Exit&, const Exit&) = default;
};

// "was killed by signal 9 (Killed)" or "exited with status 1".
std::string describe(const Exit& exit);

class Outcome {
 public:
  // The job succeeds if at least `min_ranks` of `ranks` end with 0.
  Outcome(int ranks, int min_ranks) : ends_(static_cast<std::size_t>(ranks)), min_ranks_(min_ranks) {}

  // In the order in which they ended.
  void ended(int rank, const Exit& exit);

  [[nodiscard]] bool running(int rank) const { return !ends_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] int running() const;
  // Even if all that still run succeed, they are too few.
  [[nodiscard]] bool hopeless() const;
  // 0, or the status of the first rank that failed. Precondition: all have ended, or the job is hopeless.
  [[nodiscard]] int status() const;

 private:
  [[nodiscard]] int succeeded() const;

  std::vector<std::optional<Exit>> ends_;
  std::optional<Exit> first_failure_;
  int min_ranks_;
};

}  // namespace hora::launch
