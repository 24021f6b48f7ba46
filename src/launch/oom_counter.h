// How many processes of this control group the kernel has killed for want of memory (cgroup v2 or v1).
#pragma once

#include <cstdint>
#include <string>

namespace hora::launch {

class OomCounter {
 public:
  // Finds the counter of this process's group; without one, take() says 0.
  OomCounter();
  // Kills since the last call.
  std::uint64_t take();

 private:
  [[nodiscard]] std::uint64_t read() const;

  std::string path_;
  std::uint64_t seen_ = 0;
};

}  // namespace hora::launch
