// Says in words why a tensor is not executed. The same text goes to every member.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "hora/types.hpp"
#include "negotiation/request.h"

namespace hora::negotiation {

// "tensor 'w1': ranks disagree: ranks 0, 1 allreduce sum float32 [3,4]; rank 2 allreduce sum float64 [3,4]".
// `requests` is by rank.
std::string describe_mismatch(std::string_view name, std::span<const Request* const> requests);

// "tensor 'w1' (allreduce sum float32 [3,4]): submitted by ranks 0, 2, not by rank 1, for 10.2 s".
std::string describe_wait(std::string_view name, const Request& request, std::span<const Rank> submitted,
                          std::span<const Rank> missing, Duration waited);

// "tensor 'loss_17': this view knows 1048576 names and has no room for another one; use the same names in each step".
std::string describe_full(std::string_view name, std::uint32_t names_max);

// Joins the first few lines and counts the others.
std::string join_reports(std::span<const std::string> reports);

}  // namespace hora::negotiation
