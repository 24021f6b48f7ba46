// What of CUDA this process can use, and why not more.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cuda/driver.h"
#include "cuda/nccl.h"
#include "hora/status.hpp"

namespace hora::cuda {

// Tests put their own tables here.
struct Runtime {
  Driver driver{};
  std::span<const std::byte> kernels;
  std::optional<Nccl> nccl;
  std::string nccl_absence;  // the reason, where there is none: device memory then goes through the host
};

// The driver, the kernels and NCCL of this process. unsupported, with the reason, where device memory cannot be used.
Result<std::shared_ptr<const Runtime>> find_runtime();

// For `hora doctor`: of driver, devices, kernels and NCCL what was found, or why not.
struct Finding {
  std::string subject;
  std::string text;
  std::string without;  // what does not go as it is; empty: it is there
  std::string mend;     // what to do about that
};
std::vector<Finding> describe();

}  // namespace hora::cuda
