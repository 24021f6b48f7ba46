#include "launch/outcome.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace hora::launch {

std::string describe(const Exit& exit) {
  if (exit.signal != 0) return fmt::format("was killed by signal {} ({})", exit.signal, ::strsignal(exit.signal));
  return fmt::format("exited with status {}", exit.code);
}

void Outcome::ended(int rank, const Exit& exit) {
  ends_[static_cast<std::size_t>(rank)] = exit;
  if (!exit.success() && !first_failure_) first_failure_ = exit;
}

int Outcome::running() const {
  return static_cast<int>(std::count(ends_.begin(), ends_.end(), std::nullopt));
}

int Outcome::succeeded() const {
  return static_cast<int>(
      std::count_if(ends_.begin(), ends_.end(), [](const auto& end) { return end && end->success(); }));
}

bool Outcome::hopeless() const {
  return succeeded() + running() < min_ranks_;
}

int Outcome::status() const {
  if (succeeded() >= min_ranks_ || !first_failure_) return 0;
  return first_failure_->status();
}

}  // namespace hora::launch
