// The seam of transports that move bytes between two ranks. The schedules of src/collectives are played over it.
//
// Not thread safe: whoever holds the engine's token calls it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "hora/status.hpp"
#include "hora/types.hpp"

namespace hora {

// Names a message between two ranks. Matched by equality: a message of an older epoch never fills a newer receive.
struct Tag {
  Epoch epoch;
  std::uint8_t channel = 0;
  std::uint64_t sequence = 0;
  std::uint32_t step = 0;
  friend auto operator<=>(const Tag&, const Tag&) = default;
};

class PairTransport {
 public:
  virtual ~PairTransport() = default;
  // Hands over the bytes of `data`; true when they were taken (the caller may overwrite them), false when the link is
  // full: try again later.
  virtual bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) = 0;
  // Fills `data` with the message of `tag`; false when it has not arrived. A message of another length is an error.
  virtual Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) = 0;
};

}  // namespace hora
