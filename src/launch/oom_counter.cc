#include "launch/oom_counter.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <vector>

namespace hora::launch {
namespace {

// A line of /proc/self/cgroup is "number:controllers:path"; version 2 has no controllers. In a container the path may
// be that of the host, so the mount's root is tried too.
std::vector<std::string> candidates() {
  std::vector<std::string> paths;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      paths.push_back("/sys/fs/cgroup" + path + "/memory.events");
      paths.emplace_back("/sys/fs/cgroup/memory.events");
    } else if (controllers.find("memory") != std::string::npos) {
      paths.push_back("/sys/fs/cgroup/memory" + path + "/memory.oom_control");
      paths.emplace_back("/sys/fs/cgroup/memory/memory.oom_control");
    }
  }
  return paths;
}

}  // namespace

OomCounter::OomCounter() {
  for (const std::string& path : candidates())
    if (std::ifstream(path).good()) {
      path_ = path;
      break;
    }
  seen_ = read();
}

std::uint64_t OomCounter::read() const {
  std::ifstream file(path_);
  std::string name;
  std::uint64_t value = 0;
  while (file >> name >> value)
    if (name == "oom_kill") return value;
  return 0;
}

std::uint64_t OomCounter::take() {
  const std::uint64_t now = read();
  const std::uint64_t fresh = now - std::min(now, seen_);
  seen_ = now;
  return fresh;
}

}  // namespace hora::launch
