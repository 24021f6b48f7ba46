#include "cli/findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace hora::cli {

bool Findings::able() const {
  return std::ranges::none_of(missing_, [](const Lack& lack) { return lack.need == Need::required; });
}

std::string Findings::text() const {
  std::string text;
  for (const auto& [subject, fact] : facts_) text += fmt::format("{:<14} {}\n", subject, fact);
  if (missing_.empty()) text += fmt::format("{:<14} nothing\n", "missing");
  for (const Lack& lack : missing_)
    text += fmt::format("{:<14} {}\n{:<14}   mend: {}\n", "missing", lack.what, "", lack.mend);
  return text;
}

std::string Findings::json() const {
  nlohmann::ordered_json facts = nlohmann::ordered_json::object(), missing = nlohmann::ordered_json::array();
  for (const auto& [subject, fact] : facts_) facts[subject] = fact;
  for (const Lack& lack : missing_)
    missing.push_back({{"what", lack.what}, {"mend", lack.mend}, {"required", lack.need == Need::required}});
  return nlohmann::ordered_json{{"able", able()}, {"facts", facts}, {"missing", missing}}.dump(2) + "\n";
}

std::string in_binary_units(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  auto amount = static_cast<double>(bytes);
  for (; amount >= 1024 && unit < 4; ++unit) amount /= 1024;
  return fmt::format("{:.4g} {}", amount, kUnits[unit]);
}

}  // namespace hora::cli
