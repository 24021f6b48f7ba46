// The CUDA driver as a table of typed function pointers, filled at run time.
//
// The declarations are hora's own, after cuda.h of CUDA 12 and 13: the driver keeps its binary interface (a changed
// function gets a new symbol, `_v2`), so that hora builds where no toolkit is, and tests can put their own driver here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "hora/status.hpp"

namespace hora::cuda {

using DriverCode = int;               // CUresult
using DeviceOrdinal = int;            // CUdevice
using DeviceAddress = std::uint64_t;  // CUdeviceptr
using ContextHandle = void*;          // CUcontext
using StreamHandle = void*;           // CUstream
using EventHandle = void*;            // CUevent
using ModuleHandle = void*;           // CUmodule
using FunctionHandle = void*;         // CUfunction

inline constexpr DriverCode kDriverSuccess = 0;
inline constexpr DriverCode kDriverNotReady = 600;         // CUDA_ERROR_NOT_READY
inline constexpr DriverCode kDriverCaptureImplicit = 906;  // CUDA_ERROR_STREAM_CAPTURE_IMPLICIT
inline constexpr unsigned kEventWithoutTiming = 2;         // CU_EVENT_DISABLE_TIMING
inline constexpr unsigned kStreamNonBlocking = 1;          // CU_STREAM_NON_BLOCKING
inline constexpr unsigned kHostMemoryPortable = 1;         // CU_MEMHOSTALLOC_PORTABLE
inline constexpr unsigned kWaitValueAtLeast = 0;           // CU_STREAM_WAIT_VALUE_GEQ: the signed difference is >= 0
inline constexpr int kCaptureModeOfThread = 1;             // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL

struct Driver {
  DriverCode (*init)(unsigned flags);
  DriverCode (*driver_version)(int* version);
  DriverCode (*error_name)(DriverCode code, const char** name);

  DriverCode (*device_count)(int* count);
  DriverCode (*device_get)(DeviceOrdinal* device, int ordinal);
  DriverCode (*device_name)(char* name, int bytes, DeviceOrdinal device);
  DriverCode (*primary_context_retain)(ContextHandle* context, DeviceOrdinal device);
  DriverCode (*primary_context_release)(DeviceOrdinal device);
  DriverCode (*context_current)(ContextHandle* context);
  DriverCode (*context_set_current)(ContextHandle context);
  DriverCode (*context_push)(ContextHandle context);
  DriverCode (*context_pop)(ContextHandle* context);
  DriverCode (*context_priorities)(int* least, int* greatest);

  DriverCode (*memory_allocate)(DeviceAddress* address, std::size_t bytes);
  DriverCode (*memory_free)(DeviceAddress address);
  DriverCode (*memory_set)(DeviceAddress address, std::uint32_t value, std::size_t count, StreamHandle stream);
  DriverCode (*host_allocate)(void** memory, std::size_t bytes, unsigned flags);
  DriverCode (*host_free)(void* memory);
  DriverCode (*copy_to_device)(DeviceAddress target, const void* source, std::size_t bytes, StreamHandle stream);
  DriverCode (*copy_to_host)(void* target, DeviceAddress source, std::size_t bytes, StreamHandle stream);

  DriverCode (*stream_create)(StreamHandle* stream, unsigned flags, int priority);
  DriverCode (*stream_destroy)(StreamHandle stream);
  DriverCode (*stream_context)(StreamHandle stream, ContextHandle* context);
  DriverCode (*stream_is_capturing)(StreamHandle stream, int* status);  // 0: not
  DriverCode (*exchange_capture_mode)(int* mode);                       // of the calling thread
  DriverCode (*stream_synchronize)(StreamHandle stream);
  DriverCode (*stream_wait_event)(StreamHandle stream, EventHandle event, unsigned flags);
  DriverCode (*stream_wait_value)(StreamHandle stream, DeviceAddress word, std::uint32_t value, unsigned flags);
  // `function` runs on a thread of the driver and calls no function of the driver.
  DriverCode (*stream_call_host)(StreamHandle stream, void (*function)(void*), void* argument);

  DriverCode (*event_create)(EventHandle* event, unsigned flags);
  DriverCode (*event_destroy)(EventHandle event);
  DriverCode (*event_record)(EventHandle event, StreamHandle stream);
  DriverCode (*event_query)(EventHandle event);

  DriverCode (*module_load)(ModuleHandle* module, const void* image, unsigned options, int* names, void** values);
  DriverCode (*module_unload)(ModuleHandle module);
  DriverCode (*module_function)(FunctionHandle* function, ModuleHandle module, const char* name);
  DriverCode (*launch)(FunctionHandle function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                       unsigned block_y, unsigned block_z, unsigned shared_bytes, StreamHandle stream,
                       void** parameters, void** extra);
};

struct DriverFound {
  Driver driver;
  std::string path;
};
// The driver of this machine, initialised. unsupported, with the reason: no library, too old, or no usable device.
Result<DriverFound> find_driver();

// What failed and why. `call`: a member of Driver; the text has the name that CUDA gives it.
Status driver_status(const Driver& driver, DriverCode code, std::string_view call);

// Makes a context current in this thread for a while, and lets the thread be slow while another one captures a graph.
class CurrentContext {
 public:
  CurrentContext(const Driver& driver, ContextHandle context);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  [[nodiscard]] const Status& status() const noexcept { return status_; }

 private:
  const Driver& driver_;
  Status status_;
  int capture_mode_ = kCaptureModeOfThread;
};

}  // namespace hora::cuda

// Returns from the calling function when a call of the driver failed.
#define HORA_DRIVER_TRY(driver, function, ...)                                                                         \
  do {                                                                                                                 \
    const ::hora::cuda::DriverCode hora_code = (driver).function(__VA_ARGS__);                                         \
    if (hora_code != ::hora::cuda::kDriverSuccess) return ::hora::cuda::driver_status((driver), hora_code, #function); \
  } while (false)
