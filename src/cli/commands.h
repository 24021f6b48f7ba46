// The sub-commands of the tool `hora`. Each gets what follows its name, with the name as argv[0], and returns the exit
// status.
#pragma once

namespace hora::cli {

// hora run: starts the ranks of a job on this host.
int run_command(int argc, char** argv);

}  // namespace hora::cli
