#include "cuda/runtime.h"

#include <fmt/format.h>

#include "cuda/kernels/image.h"

namespace hora::cuda {

namespace {

constexpr const char* kNoKernels =
    "hora was built without nvcc, so it has no kernels: build it again where the CUDA toolkit is";

std::string describe_devices(const Driver& driver) {
  int count = 0;
  if (driver.device_count(&count) != kDriverSuccess) count = 0;
  std::string names;
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    DeviceOrdinal device = 0;
    char name[128] = "?";
    if (driver.device_get(&device, ordinal) == kDriverSuccess) driver.device_name(name, sizeof name, device);
    names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  }
  return names.empty() ? "none" : names;
}

}  // namespace

Result<std::shared_ptr<const Runtime>> find_runtime() {
  auto driver = find_driver();
  if (!driver.ok()) return driver.status();
  auto runtime = std::make_shared<Runtime>();
  runtime->driver = driver->driver;
  runtime->kernels = kernel_image();
  if (runtime->kernels.empty()) return Status(StatusCode::unsupported, kNoKernels);
  const auto nccl = find_nccl();
  if (nccl.ok())
    runtime->nccl = nccl.value().nccl;
  else
    runtime->nccl_absence = nccl.status().message();
  return std::shared_ptr<const Runtime>(std::move(runtime));
}

std::vector<Finding> describe() {
  constexpr const char* kTensors = "tensors on GPUs";
  std::vector<Finding> findings;
  const auto driver = find_driver();
  if (driver.ok()) {
    int version = 0;
    driver.value().driver.driver_version(&version);
    const std::string found = fmt::format("{} (CUDA {}.{})", driver.value().path, version / 1000, version % 1000 / 10);
    findings.push_back({"CUDA driver", found, "", ""});
    findings.push_back({"CUDA devices", describe_devices(driver.value().driver), "", ""});
  } else {
    findings.push_back({"CUDA driver", fmt::format("not loaded: {}", driver.status().message()), kTensors,
                        "install NVIDIA's driver (Debian: apt install nvidia-driver)"});
  }
  const auto image = kernel_image();
  if (image.empty())
    findings.push_back(
        {"CUDA kernels", "none: hora was built without nvcc", kTensors, "build hora where the CUDA toolkit is"});
  else
    findings.push_back({"CUDA kernels", fmt::format("{} KiB, in the library", image.size() / 1024), "", ""});
  const auto nccl = find_nccl();
  if (nccl.ok())
    findings.push_back(
        {"NCCL", fmt::format("{} ({})", nccl.value().path, nccl_version_text(nccl.value().version)), "", ""});
  else
    findings.push_back({"NCCL", fmt::format("not loaded: {}", nccl.status().message()), "the fast path between GPUs",
                        "pip install nvidia-nccl-cu13, and its folder in LD_LIBRARY_PATH (Debian: apt install "
                        "libnccl2)"});
  return findings;
}

}  // namespace hora::cuda
