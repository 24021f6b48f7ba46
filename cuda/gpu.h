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
struct PinnedBlock {
  std::byte* memory = nullptr;
  std::size_t bytes = 0;
};

// The word in which an operation is decided (see Decision). It only ever grows, by three at each use: so a stream that
// still waits for an older use goes on, and a word is free again as soon as its operation has been decided.
struct Word {
  DeviceAddress address = 0;
  std::uint32_t* mirror = nullptr;  // what the device has last reported, in pinned memory
  std::uint32_t pending = 0;        // its value before this use is decided

  [[nodiscard]] std::uint32_t frozen() const noexcept { return pending + 1; }
  [[nodiscard]] std::uint32_t broken() const noexcept { return pending + 2; }
  [[nodiscard]] std::uint32_t done() const noexcept { return pending + 3; }
  // What a stream waits for: done or broken.
  [[nodiscard]] std::uint32_t ended() const noexcept { return pending + 2; }
};

// How tensors of an operation are staged.
struct Staging {
  Form in = Form::copy1;
  Form out = Form::copy1;
  std::size_t element_bytes = 1;  // in the stage
};
Staging staging_of(const Signature& signature);

// One thread; the context is current there after enter().
class Gpu {
 public:
  // `context` outlives it. unsupported where the kernels do not fit the device.
  static Result<std::unique_ptr<Gpu>> open(const Driver& driver, std::span<const std::byte> kernels,
                                           ContextHandle context);
  // Everything has been given back, and no stream runs any more.
  ~Gpu();
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  [[nodiscard]] Status enter() const;
  [[nodiscard]] const Driver& driver() const noexcept { return driver_; }
  [[nodiscard]] ContextHandle context() const noexcept { return context_; }

  // Blocks are at least as large as asked for, and none is returned to the driver before the end.
  Result<DeviceBlock> take_device_block(std::size_t bytes);
  void give_back(const DeviceBlock& block);
  Result<PinnedBlock> take_pinned_block(std::size_t bytes);
  void give_back(const PinnedBlock& block);
  Result<StreamHandle> take_stream();
  void give_back_stream(StreamHandle stream);
  Result<EventHandle> take_event();
  void give_back_event(EventHandle event);
  Result<Word> take_word();
  // `value`: what the word reads now.
  void give_back(const Word& word, std::uint32_t value);

  Status copy_in(Form form, const Pieces& pieces, DeviceAddress stage, StreamHandle stream) const;
  Status copy_out(Form form, const Pieces& pieces, DeviceAddress stage, double divisor, const Decision& decision,
                  StreamHandle stream) const;

 private:
  Gpu(const Driver& driver, ContextHandle context) : driver_(driver), context_(context) {}
  Status load(std::span<const std::byte> kernels);
  Status add_words();
  Status launch(FunctionHandle function, std::uint64_t elements, void** parameters, StreamHandle stream) const;

  const Driver& driver_;
  const ContextHandle context_;
  ModuleHandle module_ = nullptr;
  FunctionHandle copy_in_[kFormCount] = {};
  FunctionHandle copy_out_[kFormCount] = {};
  Pool<DeviceBlock> blocks_;
  Pool<PinnedBlock> pinned_blocks_;
  Pool<StreamHandle> streams_;
  Pool<EventHandle> events_;
  std::vector<Word> free_words_;
};

}  // namespace hora::cuda
