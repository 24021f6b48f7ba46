// The sub-commands of the tool `hora`. Each gets what follows its name, with the name as argv[0], and returns the exit
// status.
#pragma once

namespace hora::cli {

// hora run: starts the ranks of a job on this host.
int run_command(int argc, char** argv);

// hora doctor: tells what of this machine and build hora can use, and what is missing. 1 when something is missing
// without which no job of several ranks can run.
int doctor_command(int argc, char** argv);

}  // namespace hora::cli
