// CPUs that a cgroup quota leaves, on made-up hierarchies of both versions; caches as sysfs lists them; and this
// machine itself.
#include "base/machine.h"

#include <stdlib.h>

#include <catch2/catch.hpp>
#include <fstream>

namespace hora {
namespace {

namespace fs = std::filesystem;

class Hierarchy {
 public:
  Hierarchy() {
    std::string pattern = (fs::temp_directory_path() / "hora-cgroup-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    root_ = pattern;
  }
  Hierarchy(const Hierarchy&) = delete;
  ~Hierarchy() { fs::remove_all(root_); }

  void write(const fs::path& file, const std::string& text) {
    fs::create_directories((root_ / file).parent_path());
    std::ofstream(root_ / file) << text;
  }
  [[nodiscard]] int cpus(std::string_view membership) const { return cpus_within_quota(root_, membership, 8); }
  void write_cache(const std::string& index, const char* level, const char* type, const char* size, const char* cpus) {
    const fs::path folder = fs::path("cpu0/cache") / index;
    write(folder / "level", level);
    write(folder / "type", type);
    write(folder / "size", size);
    write(folder / "shared_cpu_list", cpus);
  }
  [[nodiscard]] std::vector<Cache> caches() const { return caches_of_cpu(root_ / "cpu0"); }

 private:
  fs::path root_;
};

TEST_CASE("no_quota_leaves_the_cpus_of_the_mask") {
  Hierarchy tree;
  CHECK(tree.cpus("") == 8);
  CHECK(tree.cpus("0::/\n") == 8);
  tree.write("a/cpu.max", "max 100000\n");
  CHECK(tree.cpus("0::/a\n") == 8);
}

TEST_CASE("quota_of_version_2_is_rounded_down_but_never_to_none") {
  Hierarchy tree;
  tree.write("a/cpu.max", "250000 100000\n");
  CHECK(tree.cpus("0::/a\n") == 2);
  tree.write("a/cpu.max", "50000 100000\n");
  CHECK(tree.cpus("0::/a\n") == 1);
  tree.write("a/cpu.max", "6400000 100000\n");
  CHECK(tree.cpus("0::/a\n") == 8);
}

TEST_CASE("the_smallest_quota_among_the_ancestors_counts") {
  Hierarchy tree;
  tree.write("a/cpu.max", "300000 100000\n");
  tree.write("a/b/cpu.max", "max 100000\n");
  tree.write("a/b/c/cpu.max", "500000 100000\n");
  CHECK(tree.cpus("0::/a/b/c\n") == 3);
}

TEST_CASE("a_path_of_the_host_that_does_not_exist_here_ends_at_the_mount") {
  Hierarchy tree;
  tree.write("cpu.max", "400000 100000\n");
  CHECK(tree.cpus("0::/kubepods/pod1\n") == 4);
}

TEST_CASE("quota_of_version_1_is_found_under_either_name_of_its_controller") {
  Hierarchy tree;
  tree.write("cpu/a/cpu.cfs_quota_us", "200000\n");
  tree.write("cpu/a/cpu.cfs_period_us", "100000\n");
  tree.write("cpu,cpuacct/b/cpu.cfs_quota_us", "500000\n");
  tree.write("cpu,cpuacct/b/cpu.cfs_period_us", "100000\n");
  CHECK(tree.cpus("4:memory:/a\n1:cpu:/a\n0::/\n") == 2);
  CHECK(tree.cpus("1:cpu,cpuacct:/b\n") == 5);
  CHECK(tree.cpus("1:cpuset:/a\n2:cpuacct:/a\n") == 8);
  tree.write("cpu/a/cpu.cfs_quota_us", "-1\n");
  CHECK(tree.cpus("1:cpu:/a\n") == 8);
}

TEST_CASE("caches_are_those_for_data_nearest_first") {
  Hierarchy tree;
  CHECK(tree.caches().empty());
  tree.write_cache("index0", "3\n", "Unified\n", "32768K\n", "0-3,8-11\n");
  tree.write_cache("index1", "1\n", "Instruction\n", "32K\n", "0\n");
  tree.write_cache("index2", "1\n", "Data\n", "48K\n", "0,4\n");
  const std::vector<Cache> wanted{{1, 48 << 10, 2}, {3, 32 << 20, 8}};
  CHECK(tree.caches() == wanted);
}

TEST_CASE("this_machine_has_cpus_and_pages") {
  const Machine machine = inspect_machine();
  CHECK(machine.usable_cpus >= 1);
  CHECK(machine.page_bytes >= 4096);
  for (const Cache& cache : machine.caches) {
    CHECK(cache.bytes <= machine.last_level_cache_bytes);
    CHECK(cache.sharers >= 1);
  }
}

}  // namespace
}  // namespace hora
