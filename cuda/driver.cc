#include "cuda/driver.h"

#include <fmt/format.h>

#include "cuda/library.h"

namespace hora::cuda {

namespace {

constexpr int kDriverVersionLeast = 11080;  // 11.8: stream memory operations need no module parameter

// FUNCTION(member of Driver, symbol of the library).
#define HORA_DRIVER_FUNCTIONS(FUNCTION)                                \
  FUNCTION(init, "cuInit")                                             \
  FUNCTION(driver_version, "cuDriverGetVersion")                       \
  FUNCTION(error_name, "cuGetErrorName")                               \
  FUNCTION(device_count, "cuDeviceGetCount")                           \
  FUNCTION(device_get, "cuDeviceGet")                                  \
  FUNCTION(device_name, "cuDeviceGetName")                             \
  FUNCTION(primary_context_retain, "cuDevicePrimaryCtxRetain")         \
  FUNCTION(primary_context_release, "cuDevicePrimaryCtxRelease_v2")    \
  FUNCTION(context_current, "cuCtxGetCurrent")                         \
  FUNCTION(context_set_current, "cuCtxSetCurrent")                     \
  FUNCTION(context_push, "cuCtxPushCurrent_v2")                        \
  FUNCTION(context_pop, "cuCtxPopCurrent_v2")                          \
  FUNCTION(context_priorities, "cuCtxGetStreamPriorityRange")          \
  FUNCTION(memory_allocate, "cuMemAlloc_v2")                           \
  FUNCTION(memory_free, "cuMemFree_v2")                                \
  FUNCTION(memory_set, "cuMemsetD32Async")                             \
  FUNCTION(host_allocate, "cuMemHostAlloc")                            \
  FUNCTION(host_free, "cuMemFreeHost")                                 \
  FUNCTION(copy_to_device, "cuMemcpyHtoDAsync_v2")                     \
  FUNCTION(copy_to_host, "cuMemcpyDtoHAsync_v2")                       \
  FUNCTION(stream_create, "cuStreamCreateWithPriority")                \
  FUNCTION(stream_destroy, "cuStreamDestroy_v2")                       \
  FUNCTION(stream_context, "cuStreamGetCtx")                           \
  FUNCTION(stream_is_capturing, "cuStreamIsCapturing")                 \
  FUNCTION(exchange_capture_mode, "cuThreadExchangeStreamCaptureMode") \
  FUNCTION(stream_synchronize, "cuStreamSynchronize")                  \
  FUNCTION(stream_wait_event, "cuStreamWaitEvent")                     \
  FUNCTION(stream_wait_value, "cuStreamWaitValue32_v2")                \
  FUNCTION(stream_call_host, "cuLaunchHostFunc")                       \
  FUNCTION(event_create, "cuEventCreate")                              \
  FUNCTION(event_destroy, "cuEventDestroy_v2")                         \
  FUNCTION(event_record, "cuEventRecord")                              \
  FUNCTION(event_query, "cuEventQuery")                                \
  FUNCTION(module_load, "cuModuleLoadDataEx")                          \
  FUNCTION(module_unload, "cuModuleUnload")                            \
  FUNCTION(module_function, "cuModuleGetFunction")                     \
  FUNCTION(launch, "cuLaunchKernel")

void bind(Library& library, Driver& driver) {
#define HORA_BIND(member, symbol) library.bind(symbol, driver.member);
  HORA_DRIVER_FUNCTIONS(HORA_BIND)
#undef HORA_BIND
}

// As CUDA's manual calls it: without the number that a symbol may have.
std::string_view name_in_manual(std::string_view call) {
  std::string_view name = call;
#define HORA_NAME(member, symbol) \
  if (call == #member) name = symbol;
  HORA_DRIVER_FUNCTIONS(HORA_NAME)
#undef HORA_NAME
  return name.substr(0, name.find("_v2"));
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

Status driver_status(const Driver& driver, DriverCode code, std::string_view call) {
  const char* name = nullptr;
  if (driver.error_name(code, &name) != kDriverSuccess || name == nullptr) name = "unknown error";
  return {StatusCode::resource, fmt::format("the CUDA driver failed: {}: {} ({})", name_in_manual(call), name, code)};
}

CurrentContext::CurrentContext(const Driver& driver, ContextHandle context) : driver_(driver) {
  if (const DriverCode code = driver_.context_push(context); code != kDriverSuccess)
    status_ = driver_status(driver_, code, "context_push");
  driver_.exchange_capture_mode(&capture_mode_);
}

CurrentContext::~CurrentContext() {
  driver_.exchange_capture_mode(&capture_mode_);
  ContextHandle own = nullptr;
  if (status_.ok()) driver_.context_pop(&own);
}

}  // namespace hora::cuda
