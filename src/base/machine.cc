#include "base/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

namespace hora {

namespace {

namespace fs = std::filesystem;

// The largest machine that Linux can be built for.
constexpr int kCpusMost = 8192;

using CpuMask = std::array<cpu_set_t, kCpusMost / CPU_SETSIZE>;

// Adds the CPUs of a process, 0: this one. One that has ended has none.
bool add_cpus(CpuMask& mask, pid_t process) {
  CpuMask own{};
  if (::sched_getaffinity(process, sizeof own, own.data()) != 0) return false;
  CPU_OR_S(sizeof mask, mask.data(), mask.data(), own.data());
  return true;
}

int cpus_in_affinity_masks(std::span<const pid_t> others) {
  CpuMask mask{};
  if (!add_cpus(mask, 0)) return static_cast<int>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  for (const pid_t other : others) add_cpus(mask, other);
  return std::max(1, CPU_COUNT_S(sizeof mask, mask.data()));
}

std::string text_of(const fs::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// Quota and period in microseconds, e.g. "150000 100000"; "max" and negative quotas mean none. Rounded down: ranks that
// spin on a fraction of a CPU would only throttle each other.
std::optional<int> whole_cpus(const std::string& quota, const std::string& period) {
  char* end = nullptr;
  const long long allowed = std::strtoll(quota.c_str(), &end, 10);
  const bool is_number = end != quota.c_str();
  const long long length = std::strtoll(period.c_str(), nullptr, 10);
  if (!is_number || allowed <= 0 || length <= 0) return std::nullopt;
  return static_cast<int>(std::clamp(allowed / length, 1LL, static_cast<long long>(kCpusMost)));
}

std::optional<int> quota_v2(const fs::path& group) {
  const std::string text = text_of(group / "cpu.max");
  const std::size_t space = text.find(' ');
  if (space == text.npos) return std::nullopt;
  return whole_cpus(text.substr(0, space), text.substr(space + 1));
}

std::optional<int> quota_v1(const fs::path& group) {
  return whole_cpus(text_of(group / "cpu.cfs_quota_us"), text_of(group / "cpu.cfs_period_us"));
}

// The smallest quota from `group` up to the mount. Inside a container the path of /proc/self/cgroup can be one of the
// host, which does not exist here; its ancestors then end at the mount, which is the container's own group.
template <typename Quota>
int smallest_quota(const fs::path& mount, std::string_view group, int otherwise, Quota quota_of) {
  int least = otherwise;
  for (fs::path relative = fs::path(group).relative_path();; relative = relative.parent_path()) {
    if (const auto cpus = quota_of(mount / relative)) least = std::min(least, *cpus);
    if (relative.empty()) return least;
  }
}

bool lists(std::string_view controllers, std::string_view wanted) {
  for (std::string_view rest = controllers; !rest.empty();) {
    const std::size_t comma = rest.find(',');
    if (rest.substr(0, comma) == wanted) return true;
    rest.remove_prefix(comma == rest.npos ? rest.size() : comma + 1);
  }
  return false;
}

// "0-3,8" has five.
int cpus_in_list(const std::string& text) {
  int count = 0;
  for (const char* rest = text.c_str(); std::isdigit(static_cast<unsigned char>(*rest)) != 0;) {
    char* end = nullptr;
    const long first = std::strtol(rest, &end, 10);
    const long last = *end == '-' ? std::strtol(end + 1, &end, 10) : first;
    count += static_cast<int>(last - first + 1);
    rest = *end == ',' ? end + 1 : end;
  }
  return count;
}

// Of the same CPU in every run.
std::vector<Cache> caches_of_this_machine() {
  return caches_of_cpu("/sys/devices/system/cpu/cpu0");
}

}  // namespace

int cpus_within_quota(const fs::path& root, std::string_view membership, int otherwise) {
  int least = otherwise;
  while (!membership.empty()) {
    const std::size_t newline = membership.find('\n');
    std::string_view line = membership.substr(0, newline);
    membership.remove_prefix(newline == membership.npos ? membership.size() : newline + 1);
    // number:controllers:path, where version 2 names no controllers.
    const std::size_t first = line.find(':');
    const std::size_t second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string_view controllers = line.substr(first + 1, second - first - 1);
    const std::string_view group = line.substr(second + 1);
    if (controllers.empty()) {
      least = std::min(least, smallest_quota(root, group, otherwise, quota_v2));
    } else if (lists(controllers, "cpu")) {
      least = std::min(least, smallest_quota(root / controllers, group, otherwise, quota_v1));
      least = std::min(least, smallest_quota(root / "cpu", group, otherwise, quota_v1));
    }
  }
  return least;
}

int usable_cpus_with(std::span<const pid_t> others) {
  return cpus_within_quota("/sys/fs/cgroup", text_of("/proc/self/cgroup"), cpus_in_affinity_masks(others));
}

std::vector<Cache> caches_of_cpu(const fs::path& cpu) {
  std::vector<Cache> caches;
  for (int index = 0;; ++index) {
    const fs::path folder = cpu / "cache" / ("index" + std::to_string(index));
    const std::string type = text_of(folder / "type");
    if (type.empty()) break;
    const std::string size = text_of(folder / "size");  // always in K
    const Cache cache{std::atoi(text_of(folder / "level").c_str()), std::strtoull(size.c_str(), nullptr, 10) << 10,
                      std::max(1, cpus_in_list(text_of(folder / "shared_cpu_list")))};
    if (type != "Instruction\n" && cache.level > 0 && cache.bytes > 0) caches.push_back(cache);
  }
  std::sort(caches.begin(), caches.end(), [](const Cache& a, const Cache& b) { return a.level < b.level; });
  return caches;
}

std::uint64_t last_level_cache_bytes() {
  std::uint64_t largest = 0;
  for (const Cache& cache : caches_of_this_machine()) largest = std::max(largest, cache.bytes);
  // A sandbox may hide the folders; the C library then asks the processor.
  for (const int name : {_SC_LEVEL3_CACHE_SIZE, _SC_LEVEL2_CACHE_SIZE})
    if (largest == 0) largest = static_cast<std::uint64_t>(std::max(0L, ::sysconf(name)));
  return largest;
}

Machine inspect_machine() {
  Machine machine;
  machine.usable_cpus = usable_cpus_with({});
  machine.caches = caches_of_this_machine();
  machine.last_level_cache_bytes = last_level_cache_bytes();
  machine.page_bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return machine;
}

}  // namespace hora
