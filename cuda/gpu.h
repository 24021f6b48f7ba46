// One device in one process: the pools of streams, events and memory that operations borrow from, and the kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cuda/driver.h"
#include "cuda/kernels/pieces.h"
#include "cuda/pool.h"
#include "hora/status.hpp"
#include "hora/types.hpp"
#include "interfaces/operation.h"

namespace hora::cuda {

struct DeviceBlock {
  DeviceAddress address = 0;
  std::size_t bytes = 0;
};

// The word in which an operation is decided (see Decision), and its mirror in pinned memory, for which streams wait.
// The device tells the mirror what it has decided; what it has frozen the host ends there, once it has carried it. The
// mirror only ever grows, by three at each use: so a stream that still waits for an older use goes on, and a word is
// free again as soon as its operation has ended.
struct Word {
  DeviceAddress address = 0;
  std::uint32_t* mirror = nullptr;
  std::uint32_t held = 0;     // what the device's word reads before this use is decided
  std::uint32_t pending = 0;  // ... and the mirror

  [[nodiscard]] std::uint32_t frozen() const noexcept { return pending + 1; }
  [[nodiscard]] std::uint32_t broken() const noexcept { return pending + 2; }
  [[nodiscard]] std::uint32_t done() const noexcept { return pending + 3; }
  // What a stream waits for: done or broken.
  [[nodiscard]] std::uint32_t ended() const noexcept { return pending + 2; }
  [[nodiscard]] DeviceAddress awaited() const noexcept { return reinterpret_cast<std::uintptr_t>(mirror); }
};

// How tensors of an operation are staged.
struct Staging {
  Form in = Form::copy1;
  Form out = Form::copy1;
  std::size_t element_bytes = 1;  // in the stage
};
Staging staging_of(const Signature& signature);

// One thread, in which the context is current after enter(). What an operation needs to come to its end without NCCL is
// taken at the start: memory, streams and words may not be had while streams of the device stall.
class Gpu {
 public:
  // `context` outlives it. unsupported where the kernels do not fit the device.
  static Result<std::unique_ptr<Gpu>> open(const Driver& driver, std::span<const std::byte> kernels,
                                           ContextHandle context);
  // Everything has been given back, and no stream runs any more.
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  // Of a thread that serves this device only.
  [[nodiscard]] Status enter() const;
  [[nodiscard]] const Driver& driver() const noexcept { return driver_; }
  [[nodiscard]] ContextHandle context() const noexcept { return context_; }

  // Blocks are at least as large as asked for, and none is returned to the driver before the end.
  Result<DeviceBlock> take_device_block(std::size_t bytes);
  void give_back(const DeviceBlock& block);
  // There is one that large, though it may be lent, or else there is one now.
  [[nodiscard]] bool has_device_block(std::size_t bytes);
  Result<EventHandle> take_event();
  void give_back_event(EventHandle event);
  [[nodiscard]] bool has_word() const noexcept { return !free_words_.empty(); }
  Word take_word();
  // `held`, `told`: what the word and its mirror read now.
  void give_back(const Word& word, std::uint32_t held, std::uint32_t told);
  // For good. Streams of the highest priority: those of callers can seldom stand in their way, in the device's queues.
  Result<StreamHandle> make_stream();
  Result<std::byte*> make_pinned_block(std::size_t bytes);
  // Not 0: raised. One for each communicator.
  [[nodiscard]] std::span<std::uint32_t> abort_flags() const noexcept { return {flags_, kAbortFlags}; }

  Status copy_in(Form form, const Pieces& pieces, DeviceAddress stage, StreamHandle stream) const;
  Status copy_out(Form form, const Pieces& pieces, DeviceAddress stage, double divisor, const Decision& decision,
                  StreamHandle stream) const;
  // Of a copy-out that is decided already.
  [[nodiscard]] Decision certain() const noexcept;

  static constexpr std::size_t kWords = 256;
  static constexpr std::size_t kAbortFlags = 4096;

 private:
  Gpu(const Driver& driver, ContextHandle context) : driver_(driver), context_(context) {}
  Status load(std::span<const std::byte> kernels);
  Status make_words();
  Status launch(FunctionHandle function, std::uint64_t elements, void** parameters, StreamHandle stream) const;

  const Driver& driver_;
  const ContextHandle context_;
  ModuleHandle module_ = nullptr;
  FunctionHandle copy_in_[kFormCount] = {};
  FunctionHandle copy_out_[kFormCount] = {};
  Pool<DeviceBlock> blocks_;
  Pool<EventHandle> events_;
  std::vector<StreamHandle> streams_;
  std::vector<std::byte*> pinned_blocks_;
  std::vector<Word> free_words_;
  DeviceAddress certain_word_ = 0;
  std::uint32_t* flags_ = nullptr;  // kAbortFlags, and
  std::uint32_t* never_raised_ = nullptr;
};

}  // namespace hora::cuda
