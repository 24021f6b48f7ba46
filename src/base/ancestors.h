// The processes that this one descends from, as /proc shows them.
#pragma once

#include <string_view>
#include <vector>

#include "base/launcher.h"

namespace hora {

// From the parent upwards, as far as this process's namespace shows them.
std::vector<Ancestor> ancestors_of_this_process();

// The parent and the start time in the text of a /proc/PID/stat. Parent 0: there is none, or the text is malformed.
struct ProcessOrigin {
  pid_t parent = 0;
  std::uint64_t start_time = 0;
};
ProcessOrigin parse_process_stat(std::string_view text);

}  // namespace hora
