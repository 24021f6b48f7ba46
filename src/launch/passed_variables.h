// What of this process's environment goes along to processes on other hosts.
#pragma once

#include <string>
#include <vector>

#include "hora/status.hpp"
#include "launch/host.h"

namespace hora::launch {

// The HORA_ variables, and those that are asked for: "NAME", or "NAME=VALUE". StatusCode::invalid_argument: a name that
// is not in the environment.
Result<Variables> passed_variables(const std::vector<std::string>& asked);

}  // namespace hora::launch
