#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <string_view>

#include "base/machine.h"
#include "cli/examinations.h"
#include "cli/kernel_features.h"
#include "collectives/reduce_kernels.h"

namespace hora::cli {

namespace {

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != line.npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

void examine_processor(Findings& findings) {
  using collectives::ReduceVariant;
  std::string variants;
  std::string_view chosen;
  for (const auto variant : {ReduceVariant::generic, ReduceVariant::avx2, ReduceVariant::avx512}) {
    if (!collectives::is_available(variant)) continue;
    chosen = collectives::to_string(variant);
    variants += (variants.empty() ? "" : ", ") + std::string(chosen);
  }
  findings.add("processor", processor_name());
  findings.add("kernels", fmt::format("{} (can run {})", chosen, variants));
  const Machine machine = inspect_machine();
  findings.add("cpus", fmt::format("{} usable of {} online (affinity mask and cgroup quota)", machine.usable_cpus,
                                   ::sysconf(_SC_NPROCESSORS_ONLN)));
  std::string caches;
  for (const Cache& cache : machine.caches) {
    caches += fmt::format("{}L{} {} for {} cpu{}", caches.empty() ? "" : ", ", cache.level,
                          in_binary_units(cache.bytes), cache.sharers, cache.sharers == 1 ? "" : "s");
  }
  findings.add("caches", caches.empty() ? "unknown" : caches);
  findings.add("page", in_binary_units(machine.page_bytes));
}

void examine_kernel(Findings& findings) {
  utsname kernel{};
  ::uname(&kernel);
  findings.add("kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine));
  for (const KernelFeature& feature : probe_kernel()) {
    findings.add("  " + feature.name, feature.present ? "yes" : "no");
    if (!feature.present)
      findings.miss(feature.required ? Need::required : Need::optional,
                    fmt::format("{}: {}", feature.name, feature.without), "run a newer kernel");
  }
}

void add_limit(Findings& findings, std::string_view name, int resource, bool in_bytes) {
  rlimit limit{};
  if (::getrlimit(static_cast<__rlimit_resource>(resource), &limit) != 0) return;
  const auto text = [in_bytes](rlim_t value) {
    if (value == RLIM_INFINITY) return std::string("unlimited");
    return in_bytes ? in_binary_units(value) : std::to_string(value);
  };
  findings.add(name, fmt::format("{} (at most {})", text(limit.rlim_cur), text(limit.rlim_max)));
}

}  // namespace

void examine_machine(Findings& findings) {
  examine_processor(findings);
  examine_kernel(findings);
  struct statvfs shm {};
  findings.add("/dev/shm", ::statvfs("/dev/shm", &shm) == 0
                               ? fmt::format("{} free of {}", in_binary_units(shm.f_bavail * shm.f_frsize),
                                             in_binary_units(shm.f_blocks * shm.f_frsize))
                               : "absent");
  add_limit(findings, "open files", RLIMIT_NOFILE, false);
  add_limit(findings, "locked memory", RLIMIT_MEMLOCK, true);
  add_limit(findings, "core dumps", RLIMIT_CORE, true);
}

}  // namespace hora::cli
