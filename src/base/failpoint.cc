#include "base/failpoint.h"

#include <fmt/format.h>

#include "base/environment.h"

#ifdef HORA_FAILPOINTS
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <deque>
#endif

namespace hora::failpoint {

namespace {

Status invalid(std::string_view part, std::string_view why) {
  return Status(StatusCode::invalid_argument, fmt::format("HORA_FAILPOINT: '{}' {}", part, why));
}

// The text up to `separator`, which is taken away from `rest` together with it.
std::string_view next_part(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  return part;
}

Result<Act> parse_act(std::string_view value) {
  if (value == "kill") return Act::kill;
  if (value == "stop") return Act::stop;
  if (value == "exit") return Act::exit;
  if (value == "segv") return Act::segv;
  return invalid(value, "is not one of kill, stop, exit, segv");
}

Result<Rule> parse_rule(std::string_view text) {
  Rule rule;
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view value = next_part(rest, ',');
    const std::string_view key = next_part(value, '=');
    if (key == "point") {
      rule.point = value;
    } else if (key == "act") {
      const auto act = parse_act(value);
      if (!act) return act.status();
      rule.act = act.value();
    } else if (key == "rank" || key == "hit") {
      const auto number = parse_number(value, key == "hit" ? 1 : 0, key == "hit" ? 1ULL << 40 : 65'535, Suffixes::none);
      if (!number) return invalid(text, fmt::format("has a bad {}: {}", key, number.status().message()));
      if (key == "hit") rule.hit = number.value();
      if (key == "rank") rule.rank = static_cast<int>(number.value());
    } else {
      return invalid(key, "is not one of rank, point, hit, act");
    }
  }
  if (rule.point.empty()) return invalid(text, "names no point");
  return rule;
}

}  // namespace

Result<std::vector<Rule>> parse(std::string_view text) {
  std::vector<Rule> rules;
  while (!text.empty()) {
    auto rule = parse_rule(next_part(text, ';'));
    if (!rule) return rule.status();
    rules.push_back(std::move(rule).value());
  }
  return rules;
}

#ifdef HORA_FAILPOINTS

namespace {

struct CountedRule {
  explicit CountedRule(Rule given) : rule(std::move(given)) {}
  Rule rule;
  std::atomic<std::uint64_t> arrivals{0};
};

// The rules for this process. A test whose rules cannot be read must not pass by doing nothing: the process ends.
std::deque<CountedRule> read_rules() {
  std::deque<CountedRule> mine;
  const Environment environment = Environment::of_process();
  auto rules = parse(environment.find("HORA_FAILPOINT").value_or(""));
  if (!rules) {
    fmt::print(stderr, "{}\n", rules.status().to_string());
    std::_Exit(2);
  }
  const auto name = environment.find("HORA_RANK") ? "HORA_RANK" : "HORA_PROCESS";  // of a newcomer
  const auto rank = parse_number(environment.find(name).value_or("0"), 0, 65'535, Suffixes::none);
  for (Rule& rule : *rules) {
    if (rule.rank < 0 || (rank.ok() && rule.rank == static_cast<int>(rank.value()))) mine.emplace_back(std::move(rule));
  }
  return mine;
}

// The one state of hora that belongs to the process and not to an object: what it does, it does to the process.
std::deque<CountedRule>& rules_of_process() {
  static std::deque<CountedRule> rules = read_rules();
  return rules;
}

// To this very thread, so that it does not take one step more.
void raise_here(int signal_number) {
  ::syscall(SYS_tgkill, ::getpid(), ::gettid(), signal_number);
}

void perform(Act act) {
  switch (act) {
    case Act::kill: return raise_here(SIGKILL);
    case Act::stop: return raise_here(SIGSTOP);
    case Act::exit: std::_Exit(1);
    case Act::segv: return raise_here(SIGSEGV);
  }
}

}  // namespace

bool armed() noexcept {
  static const bool armed = !rules_of_process().empty();
  return armed;
}

void reach(std::string_view point) noexcept {
  for (CountedRule& counted : rules_of_process()) {
    if (counted.rule.point != point) continue;
    // Relaxed: only the count itself matters, and each arrival gets its own number.
    if (counted.arrivals.fetch_add(1, std::memory_order_relaxed) + 1 == counted.rule.hit) perform(counted.rule.act);
  }
}

#endif

}  // namespace hora::failpoint
