#include "negotiation/diagnosis.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "negotiation/messages.h"

namespace hora::negotiation {
namespace {

constexpr std::size_t kReportsShownMax = 8;
constexpr std::size_t kRanksShownMax = 32;
constexpr std::size_t kNameBytesShownMax = 256;
// Of a rejection, which a verdict and so the last record may have to carry, many of them at once.
constexpr std::size_t kReasonBytesMax = 1 << 10;

// "rank 3", "ranks 0, 2".
std::string name_ranks(std::span<const Rank> ranks) {
  const auto shown = ranks.first(std::min(ranks.size(), kRanksShownMax));
  std::vector<std::int32_t> values;
  values.reserve(shown.size());
  for (const Rank rank : shown) values.push_back(rank.value);
  std::string text = fmt::format("{} {}", ranks.size() == 1 ? "rank" : "ranks", fmt::join(values, ", "));
  if (shown.size() < ranks.size()) text += fmt::format(" and {} more", ranks.size() - shown.size());
  return text;
}

std::string limited(std::string text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  text.resize(bytes_max - 3);
  return text + "...";
}

std::string shown(std::string_view name) {
  return limited(std::string(name), kNameBytesShownMax);
}

}  // namespace

std::string describe_mismatch(std::string_view name, std::span<const Request* const> requests) {
  std::string text = fmt::format("tensor '{}': ranks disagree:", shown(name));
  std::vector<bool> named(requests.size());
  for (std::size_t first = 0; first < requests.size(); ++first) {
    if (named[first]) continue;
    std::vector<Rank> ranks;
    for (std::size_t rank = first; rank < requests.size(); ++rank) {
      if (*requests[rank] != *requests[first]) continue;
      named[rank] = true;
      ranks.push_back(Rank{static_cast<std::int32_t>(rank)});
    }
    text += fmt::format("{} {} {}", first == 0 ? "" : ";", name_ranks(ranks), to_string(*requests[first]));
  }
  return limited(std::move(text), kReasonBytesMax);
}

std::string describe_wait(std::string_view name, const Request& request, std::span<const Rank> submitted,
                          std::span<const Rank> missing, Duration waited) {
  const double seconds = std::chrono::duration<double>(waited).count();
  return limited(fmt::format("tensor '{}' ({}): submitted by {}, not by {}, for {:.1f} s", shown(name),
                             to_string(request), name_ranks(submitted), name_ranks(missing), seconds),
                 kReasonBytesMax);
}

std::string describe_full(std::string_view name, std::uint32_t names_max) {
  return fmt::format(
      "tensor '{}': this view knows {} names and has no room for another one; use the same names in "
      "each step",
      shown(name), names_max);
}

std::string join_reports(std::span<const std::string> reports) {
  const auto shown = reports.first(std::min(reports.size(), kReportsShownMax));
  std::string text = fmt::format("{}", fmt::join(shown, "; "));
  if (shown.size() < reports.size()) text += fmt::format("; and {} tensors more", reports.size() - shown.size());
  return limited(std::move(text), kTextBytesMax);
}

}  // namespace hora::negotiation
