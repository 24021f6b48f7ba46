// What one schedule is made of; all of it is drawn from the seed, and many faults are absent from most schedules.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/time.h"

namespace hora::sim {

enum class FaultKind : std::uint8_t {
  crash,            // the process ends; its memory stays
  crash_proposing,  // ... in the middle of carrying out the actions of a view change that it proposes
  pause,            // and wakes later, perhaps expelled
  reset,            // one link is lost
  cut,              // one link, one way, for a while
  partition,        // a group of nodes from the rest, for a while
  leave,
  request,  // a view change with the same members
};
inline constexpr int kFaultKindCount = 8;
const char* to_string(FaultKind kind);

struct Swarm {
  explicit Swarm(std::uint64_t seed);
  [[nodiscard]] std::string describe() const;

  [[nodiscard]] int total() const { return size + newcomers; }

  int size = 1;       // founders
  int newcomers = 0;  // nodes after them, each asks to be admitted
  int hosts = 1;
  std::uint32_t silence_ms = 1000;
  Duration latency_max{};       // of a message
  Duration visibility_max{};    // of a flag in shared memory
  Duration freeze_max{};        // until the engine has dropped its token
  Duration think_max{};         // between two operations of a channel
  Duration death_notice_max{};  // until a member of the same host knows of a death
  Duration operation_timeout{};
  bool kill_suspects = false;
  bool records_readable = true;
  bool all_leave_at_the_end = false;
  int chunked_percent = 0;
  int elements = 1;
  std::uint64_t operations = 1;       // of the ordered channel, and submissions of each name
  int laggard = -1;                   // a node that submits one of its operations late, after the operation timeout
  int faults = 1;                     // besides the one inside an operation
  Duration newcomer_delay_max{};      // until it starts
  Duration newcomer_retry{};          // until it asks again
  bool eager_newcomers = false;       // they say that they are ready before all members stand still
  int joining_faults = 0;             // at the moments when somebody is asked to admit
  std::uint64_t step_operations = 1;  // of the ordered channel, and steps of the names, between two boundaries
  int tensors = 1;                    // submitted in each step
  std::vector<FaultKind> kinds;       // the ones that happen
};

}  // namespace hora::sim
