// What a job with these options would use, and why: what `hora doctor` tells before there is a job.
#pragma once

#include <string>

#include "hora/options.hpp"

namespace hora::engine {

struct Outlook {
  std::string transport;   // "shm: all 4 ranks are on this host"
  std::string schedule;    // "allreduce one-shot to 8 KiB, two-shot beyond, in chunks of 256 KiB"
  int files_per_peer = 0;  // that a rank has open at most for each other one
};

// By the rules that the founders follow, with what one rank knows before it has met the others.
Outlook describe_outlook(const Options& options);

}  // namespace hora::engine
