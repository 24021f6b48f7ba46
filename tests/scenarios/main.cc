// hora_scenarios: plays scenario files and compares what happens with what they say; --rewrite writes it into them.
//
// A file is a comment that says what it documents, commands ("> crash 2") and, after each, the lines it causes.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "scenarios/ensemble.h"

namespace {

using hora::scenarios::Ensemble;
using hora::scenarios::Setup;

class Player {
  using Numbers = std::vector<int>;

 public:
  // The lines that `command` causes; nullopt when it is no command.
  std::optional<std::vector<std::string>> play(const std::string& command) {
    std::istringstream words(command);
    std::string name;
    std::vector<int> numbers;
    std::vector<std::string> flags;
    words >> name;
    for (std::string word; words >> word;) {
      if (word.find_first_not_of("0123456789") == std::string::npos)
        numbers.push_back(std::stoi(word));
      else
        flags.push_back(word);
    }
    if (name == "members") return found(numbers, flags);
    if (name == "newcomer" && numbers == Numbers{members_}) ++members_;
    const auto known = commands().find(name);
    if (!ensemble_ || known == commands().end() || numbers.size() != known->second.arguments) return std::nullopt;
    for (const int number : numbers)
      if (name != "pass" && name != "crash_after" && number >= members_) return std::nullopt;
    known->second.run(*ensemble_, numbers);
    return ensemble_->take_trace();
  }

 private:
  struct Command {
    std::size_t arguments;
    std::function<void(Ensemble&, const Numbers&)> run;
  };

  std::optional<std::vector<std::string>> found(const Numbers& numbers, const std::vector<std::string>& flags) {
    if (numbers.empty() || numbers[0] < 1) return std::nullopt;
    Setup setup;
    setup.members = members_ = numbers[0];
    for (const std::string& flag : flags) {
      if (flag == "two_hosts")
        setup.hosts = 2;
      else if (flag == "kill_suspects")
        setup.kill_suspects = true;
      else if (flag == "unreadable_records")
        setup.records_readable = false;
      else
        return std::nullopt;
    }
    ensemble_ = std::make_unique<Ensemble>(setup);
    return ensemble_->take_trace();
  }

  static const std::map<std::string, Command>& commands() {
    static const std::map<std::string, Command> all = {
        {"crash", {1, [](Ensemble& e, const Numbers& n) { e.crash(n[0]); }}},
        {"crash_after", {2, [](Ensemble& e, const Numbers& n) { e.crash_after(n[0], n[1]); }}},
        {"pause", {1, [](Ensemble& e, const Numbers& n) { e.pause(n[0]); }}},
        {"wake", {1, [](Ensemble& e, const Numbers& n) { e.wake(n[0]); }}},
        {"cut", {2, [](Ensemble& e, const Numbers& n) { e.cut(n[0], n[1]); }}},
        {"heal", {2, [](Ensemble& e, const Numbers& n) { e.heal(n[0], n[1]); }}},
        {"split",  // both ways
         {2, [](Ensemble& e, const Numbers& n) { e.cut(n[0], n[1]), e.cut(n[1], n[0]); }}},
        {"reset", {2, [](Ensemble& e, const Numbers& n) { e.reset(n[0], n[1]); }}},
        {"hold_report", {1, [](Ensemble& e, const Numbers& n) { e.hold_report(n[0]); }}},
        {"report", {1, [](Ensemble& e, const Numbers& n) { e.report(n[0]); }}},
        {"request", {1, [](Ensemble& e, const Numbers& n) { e.request(n[0]); }}},
        {"leave", {1, [](Ensemble& e, const Numbers& n) { e.leave(n[0]); }}},
        {"newcomer", {1, [](Ensemble& e, const Numbers& n) { e.newcomer(n[0]); }}},
        {"admit", {2, [](Ensemble& e, const Numbers& n) { e.admit(n[0], n[1]); }}},
        {"between_steps", {0, [](Ensemble& e, const Numbers&) { e.stand_at_boundary(true); }}},
        {"inside_step", {0, [](Ensemble& e, const Numbers&) { e.stand_at_boundary(false); }}},
        {"step", {0, [](Ensemble& e, const Numbers&) { e.step(); }}},
        {"stabilize", {0, [](Ensemble& e, const Numbers&) { e.stabilize(); }}},
        {"pass", {1, [](Ensemble& e, const Numbers& n) { e.pass(std::chrono::milliseconds(n[0])); }}},
    };
    return all;
  }

  int members_ = 0;
  std::unique_ptr<Ensemble> ensemble_;
};

std::vector<std::string> read_lines(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The file as it should be; nullopt when it cannot be played.
std::optional<std::vector<std::string>> replay(const std::filesystem::path& path,
                                               const std::vector<std::string>& lines) {
  Player player;
  std::vector<std::string> played;
  std::size_t number = 0;
  for (const std::string& line : lines) {
    ++number;
    if (line.empty() || line[0] == '#') played.push_back(line);
    if (!line.starts_with("> ")) continue;
    played.push_back(line);
    const auto trace = player.play(line.substr(2));
    if (!trace) {
      std::printf("%s:%zu: not a command: %s\n", path.c_str(), number, line.c_str());
      return std::nullopt;
    }
    for (const std::string& event : *trace) {
      played.push_back("  " + event);
      if (event.starts_with("VIOLATION")) {
        std::printf("%s:%zu: %s\n", path.c_str(), number, event.c_str());
        return std::nullopt;
      }
    }
  }
  return played;
}

bool check(const std::filesystem::path& path, bool rewrite) {
  const std::vector<std::string> lines = read_lines(path);
  if (lines.empty() || lines[0].empty() || lines[0][0] != '#') {
    std::printf("%s: it does not say first what it documents\n", path.c_str());
    return false;
  }
  const auto played = replay(path, lines);
  if (!played) return false;
  if (rewrite) {
    std::ofstream file(path);
    for (const std::string& line : *played) file << line << '\n';
    return static_cast<bool>(file);
  }
  const auto [golden, now] = std::mismatch(lines.begin(), lines.end(), played->begin(), played->end());
  if (golden == lines.end() && now == played->end()) return true;
  std::printf("%s:%td: expected: %s\n", path.c_str(), golden - lines.begin() + 1,
              golden == lines.end() ? "(end)" : golden->c_str());
  std::printf("%s:%td: happened: %s\n", path.c_str(), now - played->begin() + 1,
              now == played->end() ? "(end)" : now->c_str());
  return false;
}

}  // namespace

int main(int count, char** values) {
  bool rewrite = false;
  std::vector<std::filesystem::path> files;
  for (int i = 1; i < count; ++i) {
    const std::filesystem::path path = values[i];
    if (path == "--rewrite") {
      rewrite = true;
    } else if (std::filesystem::is_directory(path)) {
      for (const auto& entry : std::filesystem::directory_iterator(path))
        if (entry.path().extension() == ".txt" && entry.path().filename() != "CMakeLists.txt")
          files.push_back(entry.path());
    } else {
      files.push_back(path);
    }
  }
  if (files.empty()) {
    std::fprintf(stderr, "usage: hora_scenarios [--rewrite] FILE|FOLDER...\n");
    return 2;
  }
  std::sort(files.begin(), files.end());
  const auto failed =
      std::count_if(files.begin(), files.end(), [&](const auto& file) { return !check(file, rewrite); });
  std::printf("%zu scenarios, %td failed\n", files.size(), failed);
  return failed == 0 ? 0 : 1;
}
