// `hora perf OP [-np N] ...`: times a collective operation through the public API.
#pragma once

namespace hora::perf {

// `argv[0]` is "perf". The exit status: 0, 1 when a result was wrong or the job failed, 2 for usage. With -np it does
// not return: this process becomes `hora run`, which starts the ranks.
int perf_command(int argc, char** argv);

}  // namespace hora::perf
