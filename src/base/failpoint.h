// Named points at which a test makes this process die, stop or crash. Compiled in with -DHORA_FAILPOINTS=ON only.
//
//   HORA_FAILPOINT("engine.after_submit");                                            in the code
//   HORA_FAILPOINT="rank=2,point=engine.after_submit,hit=17,act=kill;point=..."       in the environment
//
// `rank` is compared with HORA_RANK, in a newcomer with HORA_PROCESS (absent: every rank), `hit` counts from 1 (the
// default), `act` is kill (SIGKILL), stop (SIGSTOP), exit (at once, status 1, no destructors) or segv (SIGSEGV, through
// the handlers of the process).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hora/status.hpp"

namespace hora::failpoint {

#ifdef HORA_FAILPOINTS
inline constexpr bool kCompiledIn = true;
#else
inline constexpr bool kCompiledIn = false;
#endif

enum class Act : std::uint8_t { kill, stop, exit, segv };

struct Rule {
  int rank = -1;  // -1: every rank
  std::string point;
  std::uint64_t hit = 1;
  Act act = Act::kill;
  friend bool operator==(const Rule&, const Rule&) = default;
};

Result<std::vector<Rule>> parse(std::string_view text);

#ifdef HORA_FAILPOINTS
// Whether HORA_FAILPOINT has a rule for this rank; asked of the environment once per process.
[[nodiscard]] bool armed() noexcept;
// Counts an arrival at `point`, and does what a rule says about it. Thread safe.
void reach(std::string_view point) noexcept;
#define HORA_FAILPOINT(point)                    \
  do {                                           \
    if (::hora::failpoint::armed()) [[unlikely]] \
      ::hora::failpoint::reach(point);           \
  } while (false)
#else
#define HORA_FAILPOINT(point) static_cast<void>(0)
#endif

}  // namespace hora::failpoint
