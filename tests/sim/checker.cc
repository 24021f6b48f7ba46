#include "sim/checker.h"

#include <fmt/format.h>

#include "elastic/messages.h"

namespace hora::sim {

void Checker::entered(int node, Epoch before, const View& next, const wire::Bytes& verdict) {
  if (next.epoch.value != before.value + 1)
    violation_(fmt::format("node {} went from epoch {} to {}", node, before.value, next.epoch.value));
  if (!next.rank_of(MemberId{static_cast<std::uint64_t>(node)}))
    violation_(fmt::format("node {} installed {}, where it is no member", node, elastic::to_string(next)));
  const auto [known, first] = views_.try_emplace(next.epoch, Installed{next, verdict});
  if (!first && known->second.view != next)
    violation_(fmt::format("two views of one epoch: {} and, on node {}, {}", elastic::to_string(known->second.view),
                           node, elastic::to_string(next)));
  if (!first && known->second.verdict != verdict)
    violation_(fmt::format("two verdicts for {} (node {})", elastic::to_string(next), node));
}

Checker::Past Checker::past_of(const DataPlane& data) {
  return {data.outcomes(Channel::ordered), data.outcomes(Channel::negotiated)};
}

void Checker::settled(int node, Epoch epoch, const DataPlane& data) {
  const auto [known, first] = pasts_.try_emplace(epoch, past_of(data));
  if (!first && known->second != past_of(data))
    violation_(fmt::format("members of epoch {} entered it with different outcomes (node {})", epoch.value, node));
}

void Checker::same_past(int node, const DataPlane& data, int other, const DataPlane& other_data) {
  if (past_of(data) != past_of(other_data))
    violation_(fmt::format("survivors {} and {} hold different outcomes", node, other));
}

}  // namespace hora::sim
