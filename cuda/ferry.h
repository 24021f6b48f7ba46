// Brings bytes between a device and memory of the host, in chunks through pinned memory that was taken at the start:
// while streams of the device stall, the driver may give none, and no stream of the ferry ever waits for another one.
#pragma once

#include <array>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "cuda/gpu.h"

namespace hora::cuda {

// One run of bytes between memory of the host, where it lies in one piece, and the device, where it does not.
struct Passage {
  struct Strip {
    DeviceAddress address;
    std::size_t bytes;
  };
  // Instead of strips, to the device: what is staged, for a copy-out to its targets.
  struct Unpacking {
    Pieces pieces;
    Staging staging;
    std::size_t target_bytes;  // of an element
    double divisor;
  };
  std::vector<Strip> strips;
  std::optional<Unpacking> unpacking;
  std::byte* host = nullptr;
  std::size_t bytes = 0;

  [[nodiscard]] bool ended() const noexcept { return landed == bytes; }
  std::size_t begun = 0;
  std::size_t landed = 0;
};

// One thread.
class Ferry {
 public:
  // `gpu` outlives it. `ring(argument)` is called on a thread of the driver when advance() may have something to do.
  static Result<std::unique_ptr<Ferry>> open(Gpu& gpu, void (*ring)(void*), void* argument);

  // Of at least one byte; they stay where they are until they have ended. Each way keeps the order.
  void to_host(Passage& passage) { to_host_.waiting.push_back(&passage); }
  void to_device(Passage& passage) { to_device_.waiting.push_back(&passage); }
  // Begins and ends what it can. After an error the device is not to be used any more.
  Status advance();
  // Something is on its way.
  [[nodiscard]] bool moves() const noexcept { return to_host_.under_way > 0 || to_device_.under_way > 0; }

 private:
  struct Chunk {
    std::byte* pinned = nullptr;
    EventHandle moved = nullptr;
    Passage* passage = nullptr;
    std::size_t offset = 0;
    std::size_t bytes = 0;
  };
  static constexpr std::size_t kChunks = 2;  // of each way: one is copied by the device, one by the host
  struct Way {
    StreamHandle stream = nullptr;
    std::deque<Passage*> waiting;  // the first may have begun
    std::array<Chunk, kChunks> chunks;
    std::size_t next = 0;  // to begin; the oldest under way is so many before it
    std::size_t under_way = 0;
  };
  Ferry(Gpu& gpu, void (*ring)(void*), void* argument) : gpu_(gpu), ring_(ring), argument_(argument) {}
  Status prepare(Way& way);
  Status advance(Way& way);
  Status begin(Way& way, Chunk& chunk);
  Status move_strips(const Way& way, Chunk& chunk);
  Status unpack(const Way& way, const Chunk& chunk);

  Gpu& gpu_;
  void (*const ring_)(void*);
  void* const argument_;
  Way to_host_;
  Way to_device_;
  DeviceBlock unpacked_;  // a chunk on its way to its targets
};

}  // namespace hora::cuda
