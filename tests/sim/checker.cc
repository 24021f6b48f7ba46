#include "sim/checker.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

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

namespace {

// Where two pasts differ first.
std::string difference(const Past& one, const Past& other) {
  for (std::size_t channel = 0; channel < kChannelCount; ++channel) {
    const auto& a = one[channel];
    const auto& b = other[channel];
    if (a.size() != b.size()) return fmt::format("channel {}: {} operations and {}", channel, a.size(), b.size());
    for (std::size_t at = 0; at < a.size(); ++at)
      if (a[at] != b[at])
        return fmt::format("channel {} operation {}: [{:x}] and [{:x}]", channel, at + 1,
                           fmt::join(a[at].elements, " "), fmt::join(b[at].elements, " "));
  }
  return "none";
}

}  // namespace

bool Checker::expelled(int node) const {
  return !views_.empty() && !views_.rbegin()->second.view.rank_of(MemberId{static_cast<std::uint64_t>(node)});
}

bool Checker::was_decided(int node) const {
  const MemberId id{static_cast<std::uint64_t>(node)};
  return std::any_of(views_.begin(), views_.end(),
                     [id](const auto& installed) { return installed.second.view.rank_of(id).has_value(); });
}

void Checker::settled(int node, Epoch epoch, const DataPlane& data) {
  const auto [known, first] = pasts_.try_emplace(epoch, data.past());
  if (!first && known->second != data.past())
    violation_(fmt::format("members of epoch {} entered it with different outcomes (node {}): {}", epoch.value, node,
                           difference(known->second, data.past())));
}

void Checker::same_past(int node, const DataPlane& data, int other, const DataPlane& other_data) {
  if (data.past() != other_data.past())
    violation_(fmt::format("survivors {} and {} hold different outcomes: {}", node, other,
                           difference(data.past(), other_data.past())));
}

}  // namespace hora::sim
