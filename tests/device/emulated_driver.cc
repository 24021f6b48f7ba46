#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "cuda/kernels/bodies.h"
#include "emulated_machine.h"

namespace hora::emulated {

Machine& machine() {
  static Machine machine;
  return machine;
}

Stream::Stream() : thread_([this] { run(); }) {
  const std::lock_guard lock(machine().mutex);
  ++machine().live.streams;
}

Stream::~Stream() {
  {
    const std::lock_guard lock(machine().mutex);
    ending_ = true;
  }
  machine().changed.notify_all();
  thread_.join();
  const std::lock_guard lock(machine().mutex);
  --machine().live.streams;
}

void Stream::enqueue(std::function<void()> task) {
  const std::lock_guard lock(machine().mutex);
  tasks_.push_back(std::move(task));
  machine().changed.notify_all();
}

void Stream::synchronize() {
  wait_for([this] { return tasks_.empty() && !busy_; });
}

void Stream::run() {
  std::unique_lock lock(machine().mutex);
  while (true) {
    machine().changed.wait(lock, [this] { return ending_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    busy_ = true;
    lock.unlock();
    task();
    lock.lock();
    busy_ = false;
    machine().changed.notify_all();
  }
}

namespace {

using cuda::DeviceAddress;
using cuda::DriverCode;

constexpr DriverCode kInvalidValue = 1, kOutOfMemory = 2, kNotFound = 500;
constexpr int kRubbish = 0xcd;
constexpr std::uint64_t kThreads = 3;  // of a launch, one after another

int context_of_the_machine;

Stream& stream_of(void* handle) {
  return *static_cast<Stream*>(handle);
}

template <typename Element, typename Stage, bool kDivides>
void run_copy_in(void** parameters, Stream& stream) {
  const auto pieces = *static_cast<const cuda::Pieces*>(parameters[0]);
  auto* stage = reinterpret_cast<Stage*>(*static_cast<DeviceAddress*>(parameters[1]));
  stream.enqueue([pieces, stage] {
    for (std::uint64_t thread = 0; thread < kThreads; ++thread) cuda::copy_in<Element>(pieces, stage, thread, kThreads);
  });
}

template <typename Element, typename Stage, bool kDivides>
void run_copy_out(void** parameters, Stream& stream) {
  const auto pieces = *static_cast<const cuda::Pieces*>(parameters[0]);
  const auto* stage = reinterpret_cast<const Stage*>(*static_cast<DeviceAddress*>(parameters[1]));
  const auto divisor = static_cast<Stage>(*static_cast<double*>(parameters[2]));
  const auto decision = *static_cast<const cuda::Decision*>(parameters[3]);
  stream.enqueue([pieces, stage, divisor, decision] {
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
  void (*run)(void** parameters, Stream& stream);
};
#define HORA_EMULATED_KERNEL(form, Element, Stage, divides)             \
  Kernel{"hora_copy_in_" #form, &run_copy_in<Element, Stage, divides>}, \
      Kernel{"hora_copy_out_" #form, &run_copy_out<Element, Stage, divides>},
const Kernel kKernels[] = {HORA_FORMS(HORA_EMULATED_KERNEL)};

DriverCode copy(void* target, const void* source, std::size_t bytes, void* stream) {
  stream_of(stream).enqueue([=] {
    const std::lock_guard lock(machine().mutex);  // words are looked at under it
    std::memcpy(target, source, bytes);
  });
  return cuda::kDriverSuccess;
}

void fill_memory(cuda::Driver& driver) {
  driver.memory_allocate = [](DeviceAddress* address, std::size_t bytes) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    if (std::exchange(machine().fail_allocation, false)) return kOutOfMemory;
    void* memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(memory, kRubbish, bytes);
    machine().device_blocks.insert(memory);
    ++machine().live.device_blocks;
    *address = reinterpret_cast<DeviceAddress>(memory);
    return cuda::kDriverSuccess;
  };
  driver.memory_free = [](DeviceAddress address) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    if (machine().device_blocks.erase(reinterpret_cast<void*>(address)) == 0) return kInvalidValue;
    --machine().live.device_blocks;
    std::free(reinterpret_cast<void*>(address));
    return cuda::kDriverSuccess;
  };
  driver.memory_set = [](DeviceAddress address, std::uint32_t value, std::size_t count, void* stream) -> DriverCode {
    stream_of(stream).enqueue([=] { std::fill_n(reinterpret_cast<std::uint32_t*>(address), count, value); });
    return cuda::kDriverSuccess;
  };
  driver.host_allocate = [](void** memory, std::size_t bytes, unsigned) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::memset(*memory, kRubbish, bytes);
    ++machine().live.pinned_blocks;
    return cuda::kDriverSuccess;
  };
  driver.host_free = [](void* memory) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    --machine().live.pinned_blocks;
    std::free(memory);
    return cuda::kDriverSuccess;
  };
  driver.copy_to_device = [](DeviceAddress target, const void* source, std::size_t bytes, void* stream) -> DriverCode {
    return copy(reinterpret_cast<void*>(target), source, bytes, stream);
  };
  driver.copy_to_host = [](void* target, DeviceAddress source, std::size_t bytes, void* stream) -> DriverCode {
    return copy(target, reinterpret_cast<const void*>(source), bytes, stream);
  };
}

void fill_streams(cuda::Driver& driver) {
  driver.stream_create = [](void** stream, unsigned, int) -> DriverCode {
    *stream = new Stream;
    return cuda::kDriverSuccess;
  };
  driver.stream_destroy = [](void* stream) -> DriverCode {
    delete static_cast<Stream*>(stream);
    return cuda::kDriverSuccess;
  };
  driver.stream_context = [](void*, void** context) -> DriverCode {
    *context = &context_of_the_machine;
    return cuda::kDriverSuccess;
  };
  driver.stream_synchronize = [](void* stream) -> DriverCode {
    stream_of(stream).synchronize();
    return cuda::kDriverSuccess;
  };
  driver.stream_wait_event = [](void* stream, void* handle, unsigned) -> DriverCode {
    auto* event = static_cast<Event*>(handle);
    std::uint64_t awaited = 0;
    {
      const std::lock_guard lock(machine().mutex);
      awaited = event->recorded;
    }
    stream_of(stream).enqueue([=] { wait_for([=] { return event->reached >= awaited; }); });
    return cuda::kDriverSuccess;
  };
  driver.stream_wait_value = [](void* stream, DeviceAddress word, std::uint32_t value, unsigned flags) -> DriverCode {
    if (flags != cuda::kWaitValueAtLeast) return kInvalidValue;
    stream_of(stream).enqueue([=] {
      wait_for([=] { return static_cast<std::int32_t>(*reinterpret_cast<std::uint32_t*>(word) - value) >= 0; });
    });
    return cuda::kDriverSuccess;
  };
  driver.stream_call_host = [](void* stream, void (*function)(void*), void* argument) -> DriverCode {
    stream_of(stream).enqueue([=] { function(argument); });
    return cuda::kDriverSuccess;
  };
}

void fill_events(cuda::Driver& driver) {
  driver.event_create = [](void** event, unsigned) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    *event = new Event;
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
      number = ++event->recorded;
    }
    stream_of(stream).enqueue([=] {
      const std::lock_guard lock(machine().mutex);
      event->reached = std::max(event->reached, number);
    });
    return cuda::kDriverSuccess;
  };
  driver.event_query = [](void* handle) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
    const auto* event = static_cast<Event*>(handle);
    return event->reached == event->recorded ? cuda::kDriverSuccess : cuda::kDriverNotReady;
  };
}

void fill_modules(cuda::Driver& driver) {
  driver.error_name = [](DriverCode, const char** name) -> DriverCode {
    *name = "emulated error";
    return cuda::kDriverSuccess;
  };
  driver.device_get = [](int* device, int ordinal) -> DriverCode {
    *device = ordinal;
    return cuda::kDriverSuccess;
  };
  driver.primary_context_retain = [](void** context, int) -> DriverCode {
    *context = &context_of_the_machine;
    return cuda::kDriverSuccess;
  };
  driver.context_current = [](void** context) -> DriverCode {
    *context = &context_of_the_machine;
    return cuda::kDriverSuccess;
  };
  driver.context_set_current = [](void*) -> DriverCode { return cuda::kDriverSuccess; };
  driver.module_load = [](void** module, const void*, unsigned, int*, void**) -> DriverCode {
    const std::lock_guard lock(machine().mutex);
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
                     void** parameters, void**) -> DriverCode {
    static_cast<const Kernel*>(function)->run(parameters, stream_of(stream));
    return cuda::kDriverSuccess;
  };
}

}  // namespace

struct Gate::State {
  bool open = false;
};

Gate::Gate(void* stream) : state_(std::make_shared<State>()) {
  stream_of(stream).enqueue([state = state_] { wait_for([&] { return state->open; }); });
}

Gate::~Gate() {
  open();
}

void Gate::open() {
  const std::lock_guard lock(machine().mutex);
  state_->open = true;
  machine().changed.notify_all();
}

std::shared_ptr<const cuda::Runtime> runtime(bool has_nccl) {
  auto made = std::make_shared<cuda::Runtime>();
  fill_memory(made->driver);
  fill_streams(made->driver);
  fill_events(made->driver);
  fill_modules(made->driver);
  if (has_nccl)
    fill_nccl(made->nccl.emplace());
  else
    made->nccl_absence = "this rank of the test has none";
  return made;
}
std::shared_ptr<const cuda::Runtime> with_nccl(int) {
  return runtime(true);
}
std::shared_ptr<const cuda::Runtime> without_nccl(int) {
  return runtime(false);
}

Live live() {
  const std::lock_guard lock(machine().mutex);
  return machine().live;
}

void let_allocation_fail() {
  const std::lock_guard lock(machine().mutex);
  machine().fail_allocation = true;
}

}  // namespace hora::emulated
