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
std::string difference(const ChannelPast& one, const ChannelPast& other) {
  for (std::size_t channel = 0; channel < kChannelCount; ++channel) {
    const auto& a = one[channel];
    const auto& b = other[channel];
    if (a.size() != b.size()) return fmt::format("channel {}: {} operations and {}", channel, a.size(), b.size());
    for (std::size_t at = 0; at < a.size(); ++at)
      if (a[at] != b[at])
        return fmt::format("channel {} operation {}: [{:x}] and [{:x}]", channel, at + 1,
                           fmt::join(a[at].elements, " "), fmt::join(b[at].elements, " "));
  }
  return "";
}

std::string to_string(const NameOutcome& outcome) {
  return fmt::format("{} in {} {}", hora::to_string(outcome.code), outcome.sequence, outcome.text);
}

// Where two members disagree about how a submission ended; one of them may not have made as many.
std::string contradiction(const NamedPast& one, const NamedPast& other) {
  for (const auto& [name, outcomes] : one) {
    const auto found = other.find(name);
    if (found == other.end()) return fmt::format("{} is unknown", name);
    for (std::size_t at = 0; at < std::min(outcomes.size(), found->second.size()); ++at)
      if (outcomes[at] != found->second[at])
        return fmt::format("{} submission {}: {} and {}", name, at + 1, to_string(outcomes[at]),
                           to_string(found->second[at]));
  }
  return "";
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

void Checker::settled(int node, Epoch epoch, const Past& past) {
  const auto [known, first] = pasts_.try_emplace(epoch, past);
  if (first) return;
  std::string what = difference(known->second.channels, past.channels);
  if (what.empty()) what = contradiction(known->second.named, past.named);
  if (!what.empty())
    violation_(
        fmt::format("members of epoch {} entered it with different outcomes (node {}): {}", epoch.value, node, what));
}

void Checker::executes(int node, Epoch epoch, std::uint64_t position, const std::vector<std::string>& group) {
  const auto [known, first] = groups_.try_emplace({epoch, position}, group);
  if (!first && known->second != group)
    violation_(fmt::format("node {} executes {} at position {} of epoch {}, others {}", node, fmt::join(group, "+"),
                           position, epoch.value, fmt::join(known->second, "+")));
}

void Checker::same_past(int node, const Past& past, int other, const Past& other_past) {
  if (past == other_past) return;
  std::string what = difference(past.channels, other_past.channels);
  if (what.empty()) what = contradiction(past.named, other_past.named);
  if (what.empty()) what = "a name was submitted more often";
  violation_(fmt::format("survivors {} and {} hold different outcomes: {}", node, other, what));
}

}  // namespace hora::sim
