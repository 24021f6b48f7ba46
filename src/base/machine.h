// What this process may use of the machine: CPUs, caches, pages.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace hora {

struct Cache {
  int level = 0;
  std::uint64_t bytes = 0;
  int sharers = 0;  // logical CPUs behind one such cache
  friend bool operator==(const Cache&, const Cache&) = default;
};

struct Machine {
  int usable_cpus = 1;        // of the affinity mask and the cgroup quota, the smaller; at least 1
  std::vector<Cache> caches;  // data and unified caches, one entry a level, nearest first; empty: not known
  std::uint64_t last_level_cache_bytes = 0;  // as below
  std::size_t page_bytes = 0;
};

// Asks the system: takes milliseconds, do it once.
Machine inspect_machine();

// CPUs that this process and those of `others` may use together, by their affinity masks and this process's quota: a
// launcher that gives each rank a CPU of its own has not put them on one. At least 1.
int usable_cpus_with(std::span<const pid_t> others);

// The data and unified caches of one CPU, nearest first, as Linux lists them below `cpu`, e.g.
// /sys/devices/system/cpu/cpu0; empty where it lists none.
std::vector<Cache> caches_of_cpu(const std::filesystem::path& cpu);

// Bytes of the largest level, by which the stages of shared memory are laid out; 0: not known.
std::uint64_t last_level_cache_bytes();

// Whole CPUs that the quotas of `membership` (the text of /proc/self/cgroup) and of all its ancestors leave, for cgroup
// v2 and v1 mounted at `root`; at least 1. `otherwise` where there is no quota.
int cpus_within_quota(const std::filesystem::path& root, std::string_view membership, int otherwise);

}  // namespace hora
