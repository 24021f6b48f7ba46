#include "launch/passed_variables.h"

#include <fmt/format.h>
#include <unistd.h>

#include <map>
#include <string_view>

namespace hora::launch {

Result<Variables> passed_variables(const std::vector<std::string>& asked) {
  std::map<std::string, std::string, std::less<>> own;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=');
    if (equals != text.npos) own.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  std::map<std::string, std::string, std::less<>> passed;
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
