#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "cuda/kernels/bodies.h"
#include "emulated_machine.h"

namespace hora::emulated {

Machine& machine() {
  static Machine machine;
  return machine;
}

Queue::~Queue() {
  {
    const std::lock_guard lock(machine().mutex);
    ending_ = true;
  }
  machine().changed.notify_all();
  thread_.join();
}

void Queue::run() {
  std::unique_lock lock(machine().mutex);
  while (true) {
    machine().changed.wait(lock, [this] { return ending_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const auto [stream, task] = std::move(tasks_.front());
    tasks_.pop_front();
    if (!device_.lost) {
      lock.unlock();
      task();
      lock.lock();
    }
    --stream->pending;
    machine().changed.notify_all();
  }
}

void Stream::enqueue(std::function<void()> task) {
  std::unique_lock lock(machine().mutex);
  ++machine().threads_at_full_streams;
  machine().changed.wait(lock, [this] { return pending < machine().commands_most || device.lost; });
  --machine().threads_at_full_streams;
  ++pending;
  queue->add(*this, std::move(task));
  machine().changed.notify_all();
}

void wait_for_idle(Device& device, std::unique_lock<std::mutex>& lock) {
  machine().changed.wait(lock, [&] { return !device.locked; });
  device.locked = true;
  machine().changed.wait(lock, [&] {
    return device.lost ||
           std::ranges::all_of(device.streams, [](const Stream* stream) { return stream->pending == 0; });
  });
  device.locked = false;
  machine().changed.notify_all();
}

namespace {

using cuda::DeviceAddress;
using cuda::DriverCode;

constexpr DriverCode kInvalidValue = 1, kOutOfMemory = 2, kInvalidContext = 201, kInvalidHandle = 400, kNotFound = 500;
constexpr DriverCode kLaunchFailed = 719, kCaptureUnsupported = 900;
constexpr int kRubbish = 0xcd;
constexpr std::uint64_t kThreads = 3;  // of a launch, one after another

// Of this thread.
thread_local std::vector<Device*> contexts;
thread_local int capture_mode = 0;  // CU_STREAM_CAPTURE_MODE_GLOBAL, as every thread begins

Stream& stream_of(void* handle) {
  return *static_cast<Stream*>(handle);
}

DriverCode enqueue(void* handle, std::function<void()> task) {
  Stream& stream = stream_of(handle);
  {
    const std::lock_guard lock(machine().mutex);
    if (stream.device.lost) return kLaunchFailed;
  }
  stream.enqueue(std::move(task));
  return cuda::kDriverSuccess;
}

// For calls that take something from the device or give it back, with the lock. What they find wrong, if anything.
DriverCode enter_device(std::unique_lock<std::mutex>& lock) {
  if (contexts.empty() || contexts.back() == nullptr) return kInvalidContext;
  Device& device = *contexts.back();
  if (device.captures > 0 && capture_mode == 0) return kCaptureUnsupported;
  machine().changed.wait(lock, [&] { return !device.locked || device.lost; });
  return device.lost ? kLaunchFailed : cuda::kDriverSuccess;
}

template <typename Element, typename Stage, bool kDivides>
DriverCode run_copy_in(void** parameters, void* stream) {
  const auto pieces = *static_cast<const cuda::Pieces*>(parameters[0]);
  auto* stage = reinterpret_cast<Stage*>(*static_cast<DeviceAddress*>(parameters[1]));
  return enqueue(stream, [pieces, stage] {
    for (std::uint64_t thread = 0; thread < kThreads; ++thread) cuda::copy_in<Element>(pieces, stage, thread, kThreads);
  });
}

template <typename Element, typename Stage, bool kDivides>
DriverCode run_copy_out(void** parameters, void* stream) {
  const auto pieces = *static_cast<const cuda::Pieces*>(parameters[0]);
  const auto* stage = reinterpret_cast<const Stage*>(*static_cast<DeviceAddress*>(parameters[1]));
  const auto divisor = static_cast<Stage>(*static_cast<double*>(parameters[2]));
  const auto decision = *static_cast<const cuda::Decision*>(parameters[3]);
  return enqueue(stream, [pieces, stage, divisor, decision] {
    for (std::uint64_t thread = 0; thread < kThreads; ++thread) {
      {
        const std::lock_guard lock(machine().mutex);
        if (!cuda::decide(decision)) continue;
      }
      cuda::copy_out<Element, Stage, kDivides>(pieces, stage, divisor, thread, kThreads);
    }
  });
}

struct Kernel {
  const char* name;
  DriverCode (*run)(void** parameters, void* stream);
};
#define HORA_EMULATED_KERNEL(form, Element, Stage, divides)             \
  Kernel{"hora_copy_in_" #form, &run_copy_in<Element, Stage, divides>}, \
      Kernel{"hora_copy_out_" #form, &run_copy_out<Element, Stage, divides>},
const Kernel kKernels[] = {HORA_FORMS(HORA_EMULATED_KERNEL)};

DriverCode copy(void* target, const void* source, std::size_t bytes, void* stream) {
  return enqueue(stream, [=] {
    const std::lock_guard lock(machine().mutex);  // words are looked at under it
    if (bytes == sizeof(std::uint32_t)) {         // a word, which the host looks at without the lock
      std::uint32_t word;
      std::memcpy(&word, source, bytes);
      return std::atomic_ref(*static_cast<std::uint32_t*>(target)).store(word, std::memory_order_release);
    }
    std::memcpy(target, source, bytes);
  });
}

// Frees with the whole device at rest.
DriverCode free_memory(void* memory, int& counted) {
  std::unique_lock lock(machine().mutex);
  if (const DriverCode code = enter_device(lock); code != cuda::kDriverSuccess && code != kLaunchFailed) return code;
  wait_for_idle(*contexts.back(), lock);
  --counted;
  std::free(memory);
  return cuda::kDriverSuccess;
}

void fill_memory(cuda::Driver& driver) {
  driver.memory_allocate = [](DeviceAddress* address, std::size_t bytes) -> DriverCode {
    std::unique_lock lock(machine().mutex);
    if (const DriverCode code = enter_device(lock); code != cuda::kDriverSuccess) return code;
    if (std::exchange(machine().fail_allocation, false) || bytes > machine().allocation_most ||
        machine().device_blocks.size() >= machine().blocks_most)
      return kOutOfMemory;
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(memory, kRubbish, bytes);
    machine().device_blocks.insert(memory);
    ++machine().live.device_blocks;
    *address = reinterpret_cast<DeviceAddress>(memory);
    return cuda::kDriverSuccess;
  };
  driver.memory_free = [](DeviceAddress address) -> DriverCode {
    {
      const std::lock_guard lock(machine().mutex);
      if (machine().device_blocks.erase(reinterpret_cast<void*>(address)) == 0) return kInvalidValue;
    }
    return free_memory(reinterpret_cast<void*>(address), machine().live.device_blocks);
  };
  driver.memory_set = [](DeviceAddress address, std::uint32_t value, std::size_t count, void* stream) -> DriverCode {
    return enqueue(stream, [=] { std::fill_n(reinterpret_cast<std::uint32_t*>(address), count, value); });
  };
  driver.host_allocate = [](void** memory, std::size_t bytes, unsigned) -> DriverCode {
    std::unique_lock lock(machine().mutex);
    if (const DriverCode code = enter_device(lock); code != cuda::kDriverSuccess) return code;
    *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(*memory, kRubbish, bytes);
    ++machine().live.pinned_blocks;
    return cuda::kDriverSuccess;
  };
  driver.host_free = [](void* memory) -> DriverCode { return free_memory(memory, machine().live.pinned_blocks); };
  driver.copy_to_device = [](DeviceAddress target, const void* source, std::size_t bytes, void* stream) -> DriverCode {
    return copy(reinterpret_cast<void*>(target), source, bytes, stream);
  };
  driver.copy_to_host = [](void* target, DeviceAddress source, std::size_t bytes, void* stream) -> DriverCode {
    return copy(target, reinterpret_cast<const void*>(source), bytes, stream);
  };
}

void fill_streams(cuda::Driver& driver) {
  driver.stream_create = [](void** stream, unsigned, int priority) -> DriverCode {
    std::unique_lock lock(machine().mutex);
    if (const DriverCode code = enter_device(lock); code != cuda::kDriverSuccess) return code;
    Device& device = *contexts.back();
    std::shared_ptr<Queue> queue;
    if (priority < 0) {
      queue = std::make_shared<Queue>(device);
    } else {
      std::weak_ptr<Queue>& shared = device.queues[device.streams_made++ % kQueues];
      queue = shared.lock();
      if (queue == nullptr) shared = queue = std::make_shared<Queue>(device);
    }
    auto* made = new Stream{device, std::move(queue)};
    device.streams.insert(made);
    ++machine().live.streams;
    *stream = made;
    return cuda::kDriverSuccess;
  };
  driver.stream_destroy = [](void* handle) -> DriverCode {
    const std::unique_ptr<Stream> stream(static_cast<Stream*>(handle));
    std::unique_lock lock(machine().mutex);
    machine().changed.wait(lock, [&] { return stream->pending == 0; });
    stream->device.streams.erase(stream.get());
    if (stream->device.streams.empty()) stream->device.lost = false;
    --machine().live.streams;
    const std::shared_ptr<Queue> last = std::move(stream->queue);
    lock.unlock();
    return cuda::kDriverSuccess;
  };
  driver.stream_context = [](void* stream, void** context) -> DriverCode {
    *context = &stream_of(stream).device;
    return cuda::kDriverSuccess;
  };
  driver.stream_is_capturing = [](void* stream, int* status) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    *status = stream_of(stream).capturing ? 1 : 0;
    return cuda::kDriverSuccess;
  };
  driver.exchange_capture_mode = [](int* mode) -> DriverCode {
    std::swap(*mode, capture_mode);
    return cuda::kDriverSuccess;
  };
  driver.stream_synchronize = [](void* handle) -> DriverCode {
    Stream& stream = stream_of(handle);
    std::unique_lock lock(machine().mutex);
    if (stream.device.captures > 0 && capture_mode == 0) return kCaptureUnsupported;
    machine().changed.wait(lock, [&] { return stream.pending == 0; });
    return stream.device.lost ? kLaunchFailed : cuda::kDriverSuccess;
  };
  driver.stream_wait_event = [](void* stream, void* handle, unsigned) -> DriverCode {
    auto* event = static_cast<Event*>(handle);
    std::uint64_t awaited = 0;
    {
      const std::lock_guard lock(machine().mutex);
      awaited = event->recorded;
    }
    Device& device = stream_of(stream).device;
    return enqueue(stream, [=, &device] { wait_for(device, [=] { return event->reached >= awaited; }); });
  };
  driver.stream_wait_value = [](void* stream, DeviceAddress address, std::uint32_t value,
                                unsigned flags) -> DriverCode {
    {
      const std::lock_guard lock(machine().mutex);
      if (flags != cuda::kWaitValueAtLeast || std::exchange(machine().fail_wait, false)) return kInvalidValue;
    }
    Device& device = stream_of(stream).device;
    return enqueue(stream, [=, &device] {
      std::atomic_ref word(*reinterpret_cast<std::uint32_t*>(address));
      // The host may store without the machine's lock, so this looks again by itself, as a device does.
      std::unique_lock lock(machine().mutex);
      while (!device.lost && static_cast<std::int32_t>(word.load(std::memory_order_acquire) - value) < 0)
        machine().changed.wait_for(lock, std::chrono::milliseconds(1));
    });
  };
  driver.stream_call_host = [](void* stream, void (*function)(void*), void* argument) -> DriverCode {
    return enqueue(stream, [=] { function(argument); });
  };
}

void fill_events(cuda::Driver& driver) {
  driver.event_create = [](void** event, unsigned) -> DriverCode {
    std::unique_lock lock(machine().mutex);
    if (const DriverCode code = enter_device(lock); code != cuda::kDriverSuccess) return code;
    *event = new Event{*contexts.back()};
    ++machine().live.events;
    return cuda::kDriverSuccess;
  };
  driver.event_destroy = [](void* event) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    delete static_cast<Event*>(event);
    --machine().live.events;
    return cuda::kDriverSuccess;
  };
  driver.event_record = [](void* handle, void* stream) -> DriverCode {
    auto* event = static_cast<Event*>(handle);
    std::uint64_t number = 0;
    {
      const std::lock_guard lock(machine().mutex);
      if (&event->device != &stream_of(stream).device) return kInvalidHandle;
      if (stream_of(stream).capturing) return kCaptureUnsupported;
      number = ++event->recorded;
    }
    return enqueue(stream, [=] {
      const std::lock_guard lock(machine().mutex);
      event->reached = std::max(event->reached, number);
    });
  };
  driver.event_query = [](void* handle) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    const auto* event = static_cast<Event*>(handle);
    if (event->device.captures > 0 && capture_mode == 0) return kCaptureUnsupported;
    if (event->device.lost) return kLaunchFailed;
    return event->reached == event->recorded ? cuda::kDriverSuccess : cuda::kDriverNotReady;
  };
}

void fill_contexts(cuda::Driver& driver) {
  driver.device_count = [](int* count) -> DriverCode {
    *count = static_cast<int>(machine().devices.size());
    return cuda::kDriverSuccess;
  };
  driver.device_get = [](int* device, int ordinal) -> DriverCode {
    *device = ordinal;
    return cuda::kDriverSuccess;
  };
  driver.primary_context_retain = [](void** context, int device) -> DriverCode {
    *context = &machine().devices.at(static_cast<std::size_t>(device));
    return cuda::kDriverSuccess;
  };
  driver.context_current = [](void** context) -> DriverCode {
    *context = contexts.empty() ? nullptr : contexts.back();
    return cuda::kDriverSuccess;
  };
  driver.context_set_current = [](void* context) -> DriverCode {
    if (contexts.empty()) contexts.push_back(nullptr);
    contexts.back() = static_cast<Device*>(context);
    return cuda::kDriverSuccess;
  };
  driver.context_push = [](void* context) -> DriverCode {
    contexts.push_back(static_cast<Device*>(context));
    return cuda::kDriverSuccess;
  };
  driver.context_pop = [](void** context) -> DriverCode {
    *context = contexts.back();
    contexts.pop_back();
    return cuda::kDriverSuccess;
  };
  driver.context_priorities = [](int* least, int* greatest) -> DriverCode {
    *least = 0;
    *greatest = -5;
    return cuda::kDriverSuccess;
  };
}

void fill_modules(cuda::Driver& driver) {
  driver.error_name = [](DriverCode, const char** name) -> DriverCode {
    *name = "emulated error";
    return cuda::kDriverSuccess;
  };
  driver.module_load = [](void** module, const void*, unsigned, int*, void**) -> DriverCode {
    std::unique_lock lock(machine().mutex);
    if (const DriverCode code = enter_device(lock); code != cuda::kDriverSuccess) return code;
    ++machine().live.modules;
    *module = &machine();
    return cuda::kDriverSuccess;
  };
  driver.module_unload = [](void*) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    --machine().live.modules;
    return cuda::kDriverSuccess;
  };
  driver.module_function = [](void** function, void*, const char* name) -> DriverCode {
    for (const Kernel& kernel : kKernels) {
      if (std::strcmp(kernel.name, name) != 0) continue;
      *function = const_cast<Kernel*>(&kernel);
      return cuda::kDriverSuccess;
    }
    return kNotFound;
  };
  driver.launch = [](void* function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void* stream,
                     void** parameters,
                     void**) -> DriverCode { return static_cast<const Kernel*>(function)->run(parameters, stream); };
}

}  // namespace

struct Gate::State {
  bool open = false;
};

Gate::Gate(void* stream) : state_(std::make_shared<State>()) {
  Device& device = stream_of(stream).device;
  stream_of(stream).enqueue([state = state_, &device] { wait_for(device, [&] { return state->open; }); });
}

Gate::~Gate() {
  open();
}

void Gate::open() {
  const std::lock_guard lock(machine().mutex);
  state_->open = true;
  machine().changed.notify_all();
}

Device* current_device() {
  return contexts.back();
}

namespace {
std::shared_ptr<cuda::Runtime> plain_runtime() {
  auto made = std::make_shared<cuda::Runtime>();
  fill_memory(made->driver);
  fill_streams(made->driver);
  fill_events(made->driver);
  fill_contexts(made->driver);
  fill_modules(made->driver);
  made->nccl_absence = "this rank of the test has none";
  return made;
}
}  // namespace

std::shared_ptr<const cuda::Runtime> with_nccl(int) {
  auto made = plain_runtime();
  fill_nccl(made->nccl.emplace(), true);
  return made;
}
std::shared_ptr<const cuda::Runtime> with_old_nccl(int) {
  auto made = plain_runtime();
  fill_nccl(made->nccl.emplace(), false);
  return made;
}
std::shared_ptr<const cuda::Runtime> without_nccl(int) {
  return plain_runtime();
}
std::shared_ptr<const cuda::Runtime> runtime(bool has_nccl) {
  return has_nccl ? with_nccl(0) : without_nccl(0);
}

Live live() {
  const std::lock_guard lock(machine().mutex);
  return machine().live;
}

void let_allocation_fail() {
  const std::lock_guard lock(machine().mutex);
  machine().fail_allocation = true;
}

int threads_at_full_streams() {
  const std::lock_guard lock(machine().mutex);
  return machine().threads_at_full_streams;
}

void let_wait_fail() {
  const std::lock_guard lock(machine().mutex);
  machine().fail_wait = true;
}

void let_device_be_lost(int device) {
  const std::lock_guard lock(machine().mutex);
  machine().devices.at(static_cast<std::size_t>(device)).lost = true;
  machine().changed.notify_all();
}

void limit_allocations(std::size_t bytes) {
  const std::lock_guard lock(machine().mutex);
  machine().allocation_most = bytes;
}

void limit_blocks(std::size_t blocks) {
  const std::lock_guard lock(machine().mutex);
  machine().blocks_most = blocks;
}

void limit_streams(std::size_t commands) {
  const std::lock_guard lock(machine().mutex);
  machine().commands_most = commands;
}

void lift_limits() {
  const std::lock_guard lock(machine().mutex);
  machine().allocation_most = machine().blocks_most = machine().commands_most = SIZE_MAX;
  machine().changed.notify_all();
}

Capture::Capture(void* stream) : stream_(stream) {
  const std::lock_guard lock(machine().mutex);
  stream_of(stream_).capturing = true;
  ++stream_of(stream_).device.captures;
}

Capture::~Capture() {
  const std::lock_guard lock(machine().mutex);
  stream_of(stream_).capturing = false;
  --stream_of(stream_).device.captures;
}

}  // namespace hora::emulated
