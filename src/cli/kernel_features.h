// Asks the running kernel for what hora uses of it.
#pragma once

#include <string>
#include <vector>

namespace hora::cli {

struct KernelFeature {
  std::string name;
  bool present = false;
  bool required = false;  // for a job of several ranks
  std::string without;    // what happens where it is absent
};

std::vector<KernelFeature> probe_kernel();

}  // namespace hora::cli
