#include "base/environment.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <vector>

namespace hora {

namespace {

constexpr std::string_view kPrefix = "HORA_";

constexpr std::array<std::string_view, 28> kKnown = {
    "HORA_CHUNK_BYTES",
    "HORA_FAILPOINT",
    "HORA_FUSION_BYTES",
    "HORA_JOB",
    "HORA_JOIN",
    "HORA_JOIN_LOG_BYTES",
    "HORA_KILL_SUSPECTS",
    "HORA_LAUNCH_TOKEN",
    "HORA_LOCAL_RANK",
    "HORA_LOCAL_SIZE",
    "HORA_LOG",
    "HORA_MIN_SIZE",
    "HORA_MPI_PLUGIN",
    "HORA_ONE_SHOT_BYTES",
    "HORA_OPERATION_TIMEOUT_MS",
    "HORA_PORT_RANGE",
    "HORA_PROCESS",
    "HORA_RANK",
    "HORA_SECRET",
    "HORA_SILENCE_MS",
    "HORA_SIZE",
    "HORA_SOCKETS_PER_PAIR",
    "HORA_SOCKET_IFNAME",
    "HORA_SSH",
    "HORA_STALL_WARNING_MS",
    "HORA_START_TIMEOUT_MS",
    "HORA_STORE",
    "HORA_TRANSPORT",
};
static_assert(std::is_sorted(kKnown.begin(), kKnown.end()));

// Levenshtein's distance, by rows.
std::size_t edits_between(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::uint64_t factor_of(char suffix) {
  switch (suffix) {
    case 'K':
    case 'k': return std::uint64_t{1} << 10;
    case 'M':
    case 'm': return std::uint64_t{1} << 20;
    case 'G':
    case 'g': return std::uint64_t{1} << 30;
    default: return 0;
  }
}

void add_entry(Environment::Values& values, std::string_view entry) {
  const std::size_t equals = entry.find('=');
  if (equals != entry.npos) values.emplace(entry.substr(0, equals), entry.substr(equals + 1));
}

}  // namespace

Environment Environment::of_process() {
  Values values;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) add_entry(values, *entry);
  return Environment(std::move(values));
}

Environment Environment::parse(std::string_view block) {
  Values values;
  while (!block.empty()) {
    const std::size_t end = std::min(block.find('\0'), block.size());
    add_entry(values, block.substr(0, end));
    block.remove_prefix(std::min(end + 1, block.size()));
  }
  return Environment(std::move(values));
}

Environment Environment::without(std::span<const std::string_view> names) const {
  Environment rest(values_);
  for (const std::string_view name : names)
    if (const auto found = rest.values_.find(name); found != rest.values_.end()) rest.values_.erase(found);
  return rest;
}

std::optional<std::string_view> Environment::find(std::string_view name) const {
  const auto found = values_.find(name);
  if (found == values_.end() || found->second.empty()) return std::nullopt;
  return found->second;
}

std::span<const std::string_view> known_variables() {
  return kKnown;
}

std::string complain_about_name(std::string_view name) {
  if (!name.starts_with(kPrefix) || std::binary_search(kKnown.begin(), kKnown.end(), name)) return {};
  const auto nearest = std::min_element(
      kKnown.begin(), kKnown.end(), [&](auto a, auto b) { return edits_between(a, name) < edits_between(b, name); });
  return fmt::format("{} is not known to hora and has no effect (did you mean {}?)", name, *nearest);
}

Result<std::uint64_t> parse_number(std::string_view text, std::uint64_t least, std::uint64_t most, Suffixes suffixes) {
  const auto refuse = [&] {
    return Status(StatusCode::invalid_argument,
                  fmt::format("'{}' is not a whole number from {} to {}{}", text, least, most,
                              suffixes == Suffixes::sizes ? " (K, M and G are accepted)" : ""));
  };
  std::string_view digits = text;
  std::uint64_t factor = 1;
  if (suffixes == Suffixes::sizes && !digits.empty() && factor_of(digits.back()) != 0) {
    factor = factor_of(digits.back());
    digits.remove_suffix(1);
  }
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return refuse();
  if (value > std::numeric_limits<std::uint64_t>::max() / factor) return refuse();
  value *= factor;
  if (value < least || value > most) return refuse();
  return value;
}

Result<LogLevel> parse_log_level(const Environment& environment) {
  const std::string_view text = environment.find("HORA_LOG").value_or("warn");
  if (text == "error") return LogLevel::error;
  if (text == "warn") return LogLevel::warn;
  if (text == "info") return LogLevel::info;
  if (text == "debug") return LogLevel::debug;
  return Status(StatusCode::invalid_argument,
                fmt::format("HORA_LOG: '{}' is not one of error, warn, info, debug", text));
}

}  // namespace hora
