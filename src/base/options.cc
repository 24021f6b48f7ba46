#include "hora/options.hpp"

#include <fmt/format.h>

#include "base/log.h"
#include "base/options_parser.h"

namespace hora {

Result<Options> Options::from_environment() {
  const Environment environment = Environment::of_process();
  auto parsed = parse_options(environment);
  if (!parsed) return parsed.status();
  // All ranks of a job have the same names: one complaint is enough.
  if (parsed->options.rank == 0) {
    const Log log(parse_log_level(environment).value(), fmt::format("rank={}", parsed->options.rank));
    for (const std::string& warning : parsed->warnings) log(LogLevel::warn, "options", "{}", warning);
  }
  return std::move(parsed).value().options;
}

}  // namespace hora
