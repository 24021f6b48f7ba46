#include "hora/options.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "base/ancestors.h"
#include "base/log.h"
#include "base/options_parser.h"

namespace hora {

Result<ParsedOptions> parse_options_of_process() {
  return parse_options(Environment::of_process(), ancestors_of_this_process(), ::getuid());
}

Result<Options> Options::from_environment() {
  auto parsed = parse_options_of_process();
  if (!parsed) return parsed.status();
  // All ranks of a job have the same names: one complaint is enough.
  if (parsed->options.rank == 0) {
    const Log log(parse_log_level(Environment::of_process()).value(), fmt::format("rank={}", parsed->options.rank));
    for (const std::string& warning : parsed->warnings) log(LogLevel::warn, "options", "{}", warning);
  }
  return std::move(parsed).value().options;
}

}  // namespace hora
