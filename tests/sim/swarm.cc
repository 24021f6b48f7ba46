#include "sim/swarm.h"

#include <fmt/format.h>

#include <iterator>

namespace hora::sim {

namespace {

Duration microseconds(std::uint64_t count) {
  return std::chrono::microseconds(count);
}

}  // namespace

const char* to_string(FaultKind kind) {
  switch (kind) {
    case FaultKind::crash: return "crash";
    case FaultKind::crash_proposing: return "crash_proposing";
    case FaultKind::pause: return "pause";
    case FaultKind::reset: return "reset";
    case FaultKind::cut: return "cut";
    case FaultKind::partition: return "partition";
    case FaultKind::leave: return "leave";
    case FaultKind::request: return "request";
  }
  return "unknown";
}

Swarm::Swarm(std::uint64_t seed) {
  Random random(seed ^ 0x73776172'6d000000ULL);
  const auto pick = [&random](std::initializer_list<std::uint64_t> choices) {
    return *std::next(choices.begin(), static_cast<std::ptrdiff_t>(random.below(choices.size())));
  };
  size = 1 + static_cast<int>(random.below(9));
  hosts = random.chance(1, 2) ? 1 : 1 + static_cast<int>(random.below(3));
  silence_ms = static_cast<std::uint32_t>(pick({200, 1000, 3000}));
  latency_max = microseconds(pick({50, 1000, 20'000}));
  visibility_max = microseconds(pick({1, 50, 2000}));
  freeze_max = microseconds(pick({10, 1000, 50'000}));
  think_max = microseconds(pick({100, 10'000, 200'000}));
  death_notice_max = microseconds(pick({300, 20'000, 400'000}));
  operation_timeout = std::chrono::seconds(pick({2, 5, 60}));
  kill_suspects = random.chance(1, 3);
  records_readable = random.chance(3, 4);
  all_leave_at_the_end = random.chance(1, 4);
  chunked_percent = static_cast<int>(pick({0, 50, 90}));
  elements = 1 + static_cast<int>(random.below(40));
  operations = 3 + random.below(12);
  if (operation_timeout < std::chrono::seconds(60) && random.chance(1, 3))
    laggard = static_cast<int>(random.below(static_cast<std::uint64_t>(size)));
  faults = static_cast<int>(random.below(5));
  for (int kind = 0; kind < kFaultKindCount; ++kind)
    if (random.chance(1, 2)) kinds.push_back(static_cast<FaultKind>(kind));
  if (kinds.empty()) kinds.push_back(FaultKind::crash);
  if (random.chance(2, 3)) newcomers = 1 + static_cast<int>(random.below(3));
  newcomer_delay_max = microseconds(pick({1000, 300'000, 3'000'000}));
  newcomer_retry = microseconds(pick({5'000, 100'000, 1'000'000}));
  step_operations = 1 + random.below(3);
  joining_faults = static_cast<int>(random.below(4));
  tensors = 1 + static_cast<int>(random.below(5));
  eager_newcomers = random.chance(1, 3);
}

std::string Swarm::describe() const {
  const auto us = [](Duration duration) { return duration.count() / 1000; };
  std::string names;
  for (const FaultKind kind : kinds) names += fmt::format(" {}", to_string(kind));
  return fmt::format(
      "size={} hosts={} silence_ms={} latency_us={} visibility_us={} freeze_us={} think_us={} death_notice_us={} "
      "operation_timeout_us={} kill_suspects={} records_readable={} all_leave={} chunked_percent={} elements={} "
      "operations={} laggard={} newcomers={} newcomer_delay_us={} newcomer_retry_us={} joining_faults={} "
      "step_operations={} tensors={} eager_newcomers={} faults=1+{} "
      "of:{}",
      size, hosts, silence_ms, us(latency_max), us(visibility_max), us(freeze_max), us(think_max), us(death_notice_max),
      us(operation_timeout), kill_suspects, records_readable, all_leave_at_the_end, chunked_percent, elements,
      operations, laggard, newcomers, us(newcomer_delay_max), us(newcomer_retry), joining_faults, step_operations,
      tensors, eager_newcomers, faults, names);
}

}  // namespace hora::sim
