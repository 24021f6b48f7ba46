// What `hora doctor` has found: facts, and what is missing with the command that mends it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace hora::cli {

enum class Need : bool { optional, required };  // required: without it no job of several ranks can run

class Findings {
 public:
  // In the order in which they are shown; `subject` is unique.
  void add(std::string_view subject, std::string text) { facts_.emplace_back(subject, std::move(text)); }
  // `mend`: a command, or what else to do.
  void miss(Need need, std::string what, std::string mend) {
    missing_.push_back({need, std::move(what), std::move(mend)});
  }

  [[nodiscard]] bool able() const;
  [[nodiscard]] std::string text() const;
  // {"able": bool, "facts": {subject: text}, "missing": [{"what", "mend", "required"}]}
  [[nodiscard]] std::string json() const;

 private:
  struct Lack {
    Need need;
    std::string what;
    std::string mend;
  };
  std::vector<std::pair<std::string, std::string>> facts_;
  std::vector<Lack> missing_;
};

std::string in_binary_units(std::uint64_t bytes);

}  // namespace hora::cli
