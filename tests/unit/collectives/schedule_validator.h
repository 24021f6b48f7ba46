// Proves a set of schedules, one for each rank, by playing them on symbols instead of numbers.
#pragma once

#include <string>
#include <vector>

#include "collectives/pipeline.h"
#include "collectives/schedule.h"
#include "hora/types.hpp"

namespace hora::collectives {

// What is wrong with the schedules of ranks 0, 1, ... of one operation; empty when nothing is. Checks that
//  - moves stay inside the buffers, read only what was written, and reduce never overlapping regions of unequal size;
//  - sends and receives match in number and length, and nobody waits for ever on links that hold one message;
//  - every element of the result contains exactly the inputs it should, each once, in the same order on every rank, so
//    that the bits are equal, and an average is divided once.
std::string find_fault(Collective kind, const std::vector<Schedule>& schedules, std::uint64_t count, Rank root);

// The same for plans, played as they are: lanes beside each other, over links that hold nothing. Checks besides that
// no transfer of a stage touches what another one of it writes.
std::string find_fault(Collective kind, const std::vector<Plan>& plans, std::uint64_t count, Rank root);

}  // namespace hora::collectives
