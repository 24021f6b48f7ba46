// What `hora doctor` looks at, one subject each.
#pragma once

#include "cli/findings.h"

namespace hora::cli {

// Processor, kernel and limits.
void examine_machine(Findings& findings);
// The libraries that hora loads when it runs: whether they can be loaded, from where, else why not.
void examine_libraries(Findings& findings);
// Who started this process, and what its job would use.
void examine_job(Findings& findings);

}  // namespace hora::cli
