// Drives groups the way the engine does: start, then step until the operation ends; every wait has a deadline.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "implementation.h"

namespace hora::conformance {

// Far beyond what any operation of the suite needs, on any machine.
inline constexpr std::chrono::seconds kDeadline{60};

// Performs the operation. Pending when the deadline passed first.
Step complete(GroupTransport& group, const Operation& operation);
// The same, asleep whenever nothing can be done. `overslept` is set when a sleep lasted until the deadline.
Step complete_asleep(GroupTransport& group, const Operation& operation, bool& overslept);

// The ranks of a job of `size` that are in this process.
std::vector<int> ranks_here(const Job& job, int size);

// Runs `body(rank, group)` on one thread for each rank that is here and joins them. Bodies report through their own
// memory: assertions belong to the main thread.
void run_ranks(Job& job, int size, const std::function<void(int, GroupTransport&)>& body);

}  // namespace hora::conformance
