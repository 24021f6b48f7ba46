#include "launch/passed_variables.h"

#include <fmt/format.h>

#include "base/environment.h"

namespace hora::launch {

Result<Variables> passed_variables(const std::vector<std::string>& asked) {
  const Environment environment = Environment::of_process();
  const Environment::Values& own = environment.values();
  Environment::Values passed;
  for (const auto& [name, value] : own)
    if (name.starts_with("HORA_")) passed.emplace(name, value);
  for (const std::string& one : asked) {
    const std::size_t equals = one.find('=');
    const std::string name = one.substr(0, equals);
    const auto found = own.find(name);
    if (name.empty() || (equals == one.npos && found == own.end()))
      return Status(StatusCode::invalid_argument, fmt::format("there is no variable '{}' to pass on", name));
    passed.insert_or_assign(name, equals == one.npos ? found->second : one.substr(equals + 1));
  }
  return Variables(passed.begin(), passed.end());
}

}  // namespace hora::launch
