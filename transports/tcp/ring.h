// Shared memory through which one member writes bytes to another on its host.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/unique_fd.h"
#include "hora/status.hpp"

namespace hora::tcp {

// Four frames: one is read while the next ones are written, and all of it stays in a cache.
inline constexpr std::size_t kRingBytes = 1 << 20;

// What lies before the bytes. Only the owner writes any of it; the peer maps it read-only.
struct RingHeader {
  std::uint64_t magic = 0;
  std::uint64_t bytes = 0;
  alignas(128) std::atomic<std::uint64_t> produced{0};  // bytes the owner has written to this ring
  alignas(128) std::atomic<std::uint64_t> consumed{0};  // bytes the owner has read from the peer's ring
  alignas(128) std::atomic<std::uint32_t> awaits{0};    // what the owner is asleep for: bits of RingEvent
};
enum RingEvent : std::uint32_t { kRingInput = 1, kRingRoom = 2 };

// One side's memory, mapped. A sealed memfd without a name: nothing leaks, nothing is stale, and whoever maps it need
// not fear that it shrinks.
class Ring {
 public:
  Ring() = default;
  // Writable; `fd` receives what the peer is to map.
  static Result<Ring> create(UniqueFd& fd);
  // Read-only. Fails where that is no sealed ring.
  static Result<Ring> map(const UniqueFd& fd);

  explicit operator bool() const noexcept { return memory_ != nullptr; }
  [[nodiscard]] RingHeader& header() noexcept { return *static_cast<RingHeader*>(memory_.get()); }
  [[nodiscard]] const RingHeader& header() const noexcept { return *static_cast<const RingHeader*>(memory_.get()); }

  // Copies to or from the bytes at position `at` of the endless stream, of which the ring holds the last part.
  void put(std::uint64_t at, std::span<const std::byte> bytes) noexcept;
  void get(std::uint64_t at, std::span<std::byte> bytes) const noexcept;

 private:
  explicit Ring(std::shared_ptr<void> memory) : memory_(std::move(memory)) {}
  static std::shared_ptr<void> map_memory(const UniqueFd& fd, int protection);
  [[nodiscard]] std::byte* data() const noexcept;

  std::shared_ptr<void> memory_;  // shared for its deleter only
};

}  // namespace hora::tcp
