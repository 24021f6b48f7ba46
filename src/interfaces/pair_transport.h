// The seam of transports that move bytes between two ranks. The schedules of src/collectives are played over it.
//
// Not thread safe: whoever holds the engine's token calls it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/time.h"
#include "hora/status.hpp"
#include "hora/view.hpp"

namespace hora {

// Names a message between two ranks. Matched by equality: a message of an older epoch never fills a newer receive.
struct Tag {
  Epoch epoch;
  std::uint8_t channel = 0;
  std::uint64_t sequence = 0;
  std::uint32_t step = 0;
  friend auto operator<=>(const Tag&, const Tag&) = default;
};

// The message of `tag` belongs to an operation that is over where `current` has come.
constexpr bool is_past(const Tag& tag, const Tag& current) noexcept {
  return tag.epoch < current.epoch || (tag.epoch == current.epoch && tag.sequence < current.sequence);
}

class PairTransport {
 public:
  virtual ~PairTransport() = default;

  // From now on ranks are those of `view`. What is left of older epochs is dropped; messages of `view` that came before
  // this call are kept.
  virtual void enter(const View& view) = 0;

  // Hands over the bytes of `data`; true when they were taken (the caller may overwrite them), false when the link is
  // full: try again later with the same bytes, some of which may have left. Messages of one link and channel are sent
  // one after another; one of a newer epoch or sequence abandons what was begun before.
  virtual bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) = 0;
  // Fills `data` with the message of `tag`; false when it has not arrived: try again later with the same memory, some
  // of which may be filled. A message of another length is an error.
  // Messages of older sequences of the channel are dropped: they belong to operations that ended early.
  // Nothing of `data` is touched between calls.
  virtual Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) = 0;
  // Grows whenever a call moved bytes, also where it returned false.
  [[nodiscard]] std::uint64_t moves() const noexcept { return moves_; }

  // Sleeping, as in GroupTransport: what wakes is a message for this rank or room on a full link.
  virtual void begin_sleep() = 0;
  virtual void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) = 0;
  virtual void end_sleep() = 0;
  virtual void wake() noexcept {}

 protected:
  std::uint64_t moves_ = 0;
};

}  // namespace hora
