#include "cuda/gpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace hora::cuda {

namespace {

constexpr unsigned kThreadsPerBlock = 256;
constexpr std::uint64_t kElementsPerThread = 8;
constexpr std::uint64_t kBlocksMost = 256;  // leaves the rest of the device to the caller
constexpr std::size_t kBlockBytesLeast = 64 << 10;
constexpr std::size_t kOneKind = 0;  // of events
constexpr const char* kFormNames[kFormCount] = {"copy1",    "copy2", "copy4",   "copy8",  "float16",
                                                "bfloat16", "int16", "float32", "float64"};

std::size_t block_bytes(std::size_t bytes) {
  return std::bit_ceil(std::max(bytes, kBlockBytesLeast));
}

Form same_bytes(std::size_t element_bytes) {
  switch (element_bytes) {
    case 1: return Form::copy1;
    case 2: return Form::copy2;
    case 4: return Form::copy4;
    default: return Form::copy8;
  }
}

}  // namespace

Staging staging_of(const Signature& signature) {
  const std::size_t bytes = size_of(signature.dtype);
  const Form same = same_bytes(bytes);
  if (signature.kind != Collective::allreduce) return {same, same, bytes};
  switch (signature.dtype) {
    case DataType::float16: return {Form::float16, Form::float16, 4};
    case DataType::bfloat16: return {Form::bfloat16, Form::bfloat16, 4};
    case DataType::int16: return {Form::int16, Form::int16, 4};
    case DataType::float32: return {same, Form::float32, bytes};
    case DataType::float64: return {same, Form::float64, bytes};
    default: return {same, same, bytes};
  }
}

Result<std::unique_ptr<Gpu>> Gpu::open(const Driver& driver, std::span<const std::byte> kernels,
                                       ContextHandle context) {
  std::unique_ptr<Gpu> gpu(new Gpu(driver, context));
  const CurrentContext current(driver, context);
  HORA_TRY(current.status());
  HORA_TRY(gpu->load(kernels));
  HORA_TRY(gpu->make_words());
  return gpu;
}

Status Gpu::enter() const {
  int mode = kCaptureModeOfThread;
  driver_.exchange_capture_mode(&mode);
  HORA_DRIVER_TRY(driver_, context_set_current, context_);
  return {};
}

Status Gpu::load(std::span<const std::byte> kernels) {
  if (const DriverCode code = driver_.module_load(&module_, kernels.data(), 0, nullptr, nullptr);
      code != kDriverSuccess)
    return {StatusCode::unsupported, fmt::format("hora's kernels do not run on this device: {}",
                                                 driver_status(driver_, code, "module_load").message())};
  for (int form = 0; form < kFormCount; ++form) {
    const std::string in = fmt::format("hora_copy_in_{}", kFormNames[form]);
    const std::string out = fmt::format("hora_copy_out_{}", kFormNames[form]);
    HORA_DRIVER_TRY(driver_, module_function, &copy_in_[form], module_, in.c_str());
    HORA_DRIVER_TRY(driver_, module_function, &copy_out_[form], module_, out.c_str());
  }
  return {};
}

// What the driver answers here could not be acted upon.
Gpu::~Gpu() {
  const CurrentContext current(driver_, context_);
  for (const StreamHandle stream : streams_) driver_.stream_destroy(stream);
  for (const EventHandle event : events_.made()) driver_.event_destroy(event);
  for (const DeviceBlock& block : blocks_.made()) driver_.memory_free(block.address);
  for (std::byte* block : pinned_blocks_) driver_.host_free(block);
  if (module_ != nullptr) driver_.module_unload(module_);
}

Result<DeviceBlock> Gpu::take_device_block(std::size_t bytes) {
  const std::size_t wanted = block_bytes(bytes);
  return blocks_.take(wanted, [&](DeviceBlock* block) -> Status {
    block->bytes = wanted;
    HORA_DRIVER_TRY(driver_, memory_allocate, &block->address, wanted);
    return {};
  });
}

void Gpu::give_back(const DeviceBlock& block) {
  if (block.address != 0) blocks_.give_back(block.bytes, block);
}

bool Gpu::has_device_block(std::size_t bytes) {
  const std::size_t wanted = block_bytes(bytes);
  if (std::ranges::any_of(blocks_.made(), [&](const DeviceBlock& block) { return block.bytes == wanted; })) return true;
  const auto block = take_device_block(bytes);
  if (block.ok()) give_back(block.value());
  return block.ok();
}

Result<StreamHandle> Gpu::make_stream() {
  int least = 0, greatest = 0;
  HORA_DRIVER_TRY(driver_, context_priorities, &least, &greatest);
  StreamHandle stream = nullptr;
  HORA_DRIVER_TRY(driver_, stream_create, &stream, kStreamNonBlocking, greatest);
  return streams_.emplace_back(stream);
}

Result<std::byte*> Gpu::make_pinned_block(std::size_t bytes) {
  void* memory = nullptr;
  HORA_DRIVER_TRY(driver_, host_allocate, &memory, bytes, kHostMemoryPortable);
  return pinned_blocks_.emplace_back(static_cast<std::byte*>(memory));
}

Result<EventHandle> Gpu::take_event() {
  return events_.take(kOneKind, [&](EventHandle* event) -> Status {
    HORA_DRIVER_TRY(driver_, event_create, event, kEventWithoutTiming);
    return {};
  });
}

void Gpu::give_back_event(EventHandle event) {
  if (event != nullptr) events_.give_back(kOneKind, event);
}

Status Gpu::make_words() {
  constexpr std::size_t kDeviceWords = kWords + 1, kHostWords = kWords + kAbortFlags + 1;
  const auto device = take_device_block(kDeviceWords * sizeof(std::uint32_t));
  if (!device.ok()) return device.status();
  const auto pinned = make_pinned_block(kHostWords * sizeof(std::uint32_t));
  if (!pinned.ok()) return pinned.status();
  auto* mirrors = reinterpret_cast<std::uint32_t*>(pinned.value());
  std::fill_n(mirrors, kHostWords, 0u);
  const auto stream = make_stream();
  if (!stream.ok()) return stream.status();
  HORA_DRIVER_TRY(driver_, memory_set, device.value().address, 0, kDeviceWords, stream.value());
  HORA_DRIVER_TRY(driver_, stream_synchronize, stream.value());
  for (std::size_t i = kWords; i-- > 0;)
    free_words_.push_back({device.value().address + i * sizeof(std::uint32_t), mirrors + i, 0, 0});
  certain_word_ = device.value().address + kWords * sizeof(std::uint32_t);
  flags_ = mirrors + kWords;
  never_raised_ = flags_ + kAbortFlags;
  return {};
}

Word Gpu::take_word() {
  const Word word = free_words_.back();
  free_words_.pop_back();
  return word;
}

void Gpu::give_back(const Word& word, std::uint32_t held, std::uint32_t told) {
  free_words_.push_back({word.address, word.mirror, held, told});
}

Decision Gpu::certain() const noexcept {
  return {reinterpret_cast<std::uint32_t*>(certain_word_), never_raised_, 0, 0, 1};
}

Status Gpu::launch(FunctionHandle function, std::uint64_t elements, void** parameters, StreamHandle stream) const {
  const std::uint64_t wanted = elements / (kThreadsPerBlock * kElementsPerThread) + 1;
  const auto blocks = static_cast<unsigned>(std::min(wanted, kBlocksMost));
  HORA_DRIVER_TRY(driver_, launch, function, blocks, 1, 1, kThreadsPerBlock, 1, 1, 0, stream, parameters, nullptr);
  return {};
}

Status Gpu::copy_in(Form form, const Pieces& pieces, DeviceAddress stage, StreamHandle stream) const {
  void* parameters[] = {const_cast<Pieces*>(&pieces), &stage};  // the driver copies them at the call
  return launch(copy_in_[static_cast<int>(form)], pieces.begin[pieces.count], parameters, stream);
}

Status Gpu::copy_out(Form form, const Pieces& pieces, DeviceAddress stage, double divisor, const Decision& decision,
                     StreamHandle stream) const {
  void* parameters[] = {const_cast<Pieces*>(&pieces), &stage, &divisor, const_cast<Decision*>(&decision)};
  return launch(copy_out_[static_cast<int>(form)], pieces.begin[pieces.count], parameters, stream);
}

}  // namespace hora::cuda
