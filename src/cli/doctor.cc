// hora doctor: one screen about this machine and this build.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/environment.h"
#include "base/failpoint.h"
#include "base/machine.h"
#include "base/options_parser.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/kernel_features.h"
#include "collectives/reduce_kernels.h"

namespace hora::cli {

namespace {

void print_line(std::string_view subject, std::string_view text) {
  fmt::print("{:<14} {}\n", subject, text);
}

std::string in_binary_units(std::uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  auto amount = static_cast<double>(bytes);
  for (; amount >= 1024 && unit < 4; ++unit) amount /= 1024;
  return fmt::format("{:.4g} {}", amount, kUnits[unit]);
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

void print_processor() {
  using collectives::ReduceVariant;
  std::string variants;
  std::string_view chosen;
  for (const auto variant : {ReduceVariant::generic, ReduceVariant::avx2, ReduceVariant::avx512}) {
    if (!collectives::is_available(variant)) continue;
    chosen = collectives::to_string(variant);
    variants += (variants.empty() ? "" : ", ") + std::string(chosen);
  }
  print_line("processor", processor_name());
  print_line("kernels", fmt::format("{} (can run {})", chosen, variants));
}

void print_machine() {
  const Machine machine = inspect_machine();
  print_line("cpus", fmt::format("{} usable of {} online (affinity mask and cgroup quota)", machine.usable_cpus,
                                 ::sysconf(_SC_NPROCESSORS_ONLN)));
  std::string caches;
  for (const Cache& cache : machine.caches) {
    caches += fmt::format("{}L{} {} for {} cpu{}", caches.empty() ? "" : ", ", cache.level,
                          in_binary_units(cache.bytes), cache.sharers, cache.sharers == 1 ? "" : "s");
  }
  print_line("caches", caches.empty() ? "unknown" : caches);
  print_line("page", in_binary_units(machine.page_bytes));
}

void print_limit(std::string_view name, int resource, bool in_bytes) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  const auto text = [in_bytes](rlim_t value) {
    if (value == RLIM_INFINITY) return std::string("unlimited");
    return in_bytes ? in_binary_units(value) : std::to_string(value);
  };
  print_line(name, fmt::format("{} (at most {})", text(limit.rlim_cur), text(limit.rlim_max)));
}

void print_limits() {
  struct statvfs shm {};
  if (::statvfs("/dev/shm", &shm) == 0) {
    print_line("/dev/shm", fmt::format("{} free of {}", in_binary_units(shm.f_bavail * shm.f_frsize),
                                       in_binary_units(shm.f_blocks * shm.f_frsize)));
  } else {
    print_line("/dev/shm", "absent");
  }
  print_limit("open files", RLIMIT_NOFILE, false);
  print_limit("locked memory", RLIMIT_MEMLOCK, true);
  print_limit("core dumps", RLIMIT_CORE, true);
}

// The problems found, each in one line.
std::vector<std::string> print_environment() {
  const auto parsed = parse_options(Environment::of_process());
  if (!parsed) {
    print_line("environment", "unusable");
    return {parsed.status().to_string()};
  }
  const Options& options = parsed.value().options;
  print_line("environment", fmt::format("rank {} of {} of job '{}'", options.rank, options.size, options.job));
  return parsed.value().warnings;
}

}  // namespace

int doctor_command(int argc, char** argv) {
  if (argc > 1) {
    const bool help = std::string_view(argv[1]) == "--help" || std::string_view(argv[1]) == "-h";
    fmt::print(help ? stdout : stderr, "usage: hora doctor\n");
    return help ? 0 : 2;
  }
  utsname kernel{};
  ::uname(&kernel);
  print_line("hora", fmt::format("{}{}", version(), failpoint::kCompiledIn ? ", with failpoints" : ""));
  print_processor();
  print_machine();
  print_line("kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine));
  std::vector<std::string> missing;
  bool able = true;
  for (const KernelFeature& feature : probe_kernel()) {
    print_line("  " + feature.name, feature.present ? "yes" : "no");
    if (!feature.present) missing.push_back(fmt::format("{}: {}", feature.name, feature.without));
    able = able && (feature.present || !feature.required);
  }
  print_limits();
  const std::vector<std::string> problems = print_environment();
  missing.insert(missing.end(), problems.begin(), problems.end());
  if (missing.empty()) print_line("missing", "nothing");
  for (const std::string& line : missing) print_line("missing", line);
  return able ? 0 : 1;
}

}  // namespace hora::cli
