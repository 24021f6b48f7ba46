// The variables of this process. Environment::of_process() is the only place in hora that reads them.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/log.h"
#include "hora/status.hpp"

namespace hora {

// A snapshot: values that change later are not seen.
class Environment {
 public:
  using Values = std::map<std::string, std::string, std::less<>>;

  explicit Environment(Values values) : values_(std::move(values)) {}
  static Environment of_process();
  // Out of "NAME=VALUE" entries that end with a zero each, as /proc/PID/environ has them.
  static Environment parse(std::string_view block);

  [[nodiscard]] Environment without(std::span<const std::string_view> names) const;
  // Borrows from this snapshot. An empty value counts as absent.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view name) const;
  [[nodiscard]] const Values& values() const noexcept { return values_; }

 private:
  Values values_;
};

// The HORA_ names that some part of hora reads or sets, sorted.
std::span<const std::string_view> known_variables();

// "HORA_X is not known to hora (did you mean HORA_Y?)", or empty when `name` is known, or not hora's.
std::string complain_about_name(std::string_view name);

// A whole number in [least, most]. With `sizes`, the suffixes K, M and G multiply by 1024, 1024^2 and 1024^3.
enum class Suffixes : bool { none, sizes };
Result<std::uint64_t> parse_number(std::string_view text, std::uint64_t least, std::uint64_t most, Suffixes suffixes);

// HORA_LOG: error, warn (the default), info or debug.
Result<LogLevel> parse_log_level(const Environment& environment);

}  // namespace hora
