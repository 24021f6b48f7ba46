#include "cuda/driver.h"

#include <fmt/format.h>

#include "cuda/library.h"

namespace hora::cuda {

namespace {

constexpr int kDriverVersionLeast = 11080;  // 11.8: stream memory operations need no module parameter

void bind(Library& library, Driver& driver) {
  library.bind("cuInit", driver.init);
  library.bind("cuDriverGetVersion", driver.driver_version);
  library.bind("cuGetErrorName", driver.error_name);
  library.bind("cuDeviceGetCount", driver.device_count);
  library.bind("cuDeviceGet", driver.device_get);
  library.bind("cuDeviceGetName", driver.device_name);
  library.bind("cuDevicePrimaryCtxRetain", driver.primary_context_retain);
  library.bind("cuDevicePrimaryCtxRelease_v2", driver.primary_context_release);
  library.bind("cuCtxGetCurrent", driver.context_current);
  library.bind("cuCtxSetCurrent", driver.context_set_current);
  library.bind("cuMemAlloc_v2", driver.memory_allocate);
  library.bind("cuMemFree_v2", driver.memory_free);
  library.bind("cuMemsetD32Async", driver.memory_set);
  library.bind("cuMemHostAlloc", driver.host_allocate);
  library.bind("cuMemFreeHost", driver.host_free);
  library.bind("cuMemcpyHtoDAsync_v2", driver.copy_to_device);
  library.bind("cuMemcpyDtoHAsync_v2", driver.copy_to_host);
  library.bind("cuStreamCreateWithPriority", driver.stream_create);
  library.bind("cuStreamDestroy_v2", driver.stream_destroy);
  library.bind("cuStreamGetCtx", driver.stream_context);
  library.bind("cuStreamSynchronize", driver.stream_synchronize);
  library.bind("cuStreamWaitEvent", driver.stream_wait_event);
  library.bind("cuStreamWaitValue32_v2", driver.stream_wait_value);
  library.bind("cuLaunchHostFunc", driver.stream_call_host);
  library.bind("cuEventCreate", driver.event_create);
  library.bind("cuEventDestroy_v2", driver.event_destroy);
  library.bind("cuEventRecord", driver.event_record);
  library.bind("cuEventQuery", driver.event_query);
  library.bind("cuModuleLoadDataEx", driver.module_load);
  library.bind("cuModuleUnload", driver.module_unload);
  library.bind("cuModuleGetFunction", driver.module_function);
  library.bind("cuLaunchKernel", driver.launch);
}

}  // namespace

Result<DriverFound> find_driver() {
  auto library = Library::open("libcuda.so.1");
  if (!library.ok()) return library.status();
  DriverFound found{{}, library->path()};
  bind(*library, found.driver);
  const auto refuse = [&](std::string_view why) {
    return Status(StatusCode::unsupported, fmt::format("{}: {}", found.path, why));
  };
  if (!library->missing().empty()) return refuse("it lacks " + library->missing());
  if (const DriverCode code = found.driver.init(0); code != kDriverSuccess)
    return refuse(driver_status(found.driver, code, "cuInit").message());
  int version = 0, devices = 0;
  HORA_DRIVER_TRY(found.driver, driver_version, &version);
  HORA_DRIVER_TRY(found.driver, device_count, &devices);
  if (version < kDriverVersionLeast)
    return refuse(fmt::format("it offers CUDA {}.{}, and hora needs 11.8", version / 1000, version % 1000 / 10));
  if (devices == 0) return refuse("there is no device");
  return found;
}

Status driver_status(const Driver& driver, DriverCode code, const char* call) {
  const char* name = nullptr;
  if (driver.error_name(code, &name) != kDriverSuccess || name == nullptr) name = "unknown error";
  return {StatusCode::resource, fmt::format("the CUDA driver failed: {}: {} ({})", call, name, code)};
}

}  // namespace hora::cuda
