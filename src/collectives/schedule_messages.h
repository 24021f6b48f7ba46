// The messages of a ScheduleGroup beside the data: fixed length, so that the receiver knows it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/wire.h"
#include "hora/status.hpp"
#include "interfaces/group_transport.h"

namespace hora::collectives {

// The arrival of a rank at an operation. Any 64 bits decode to some signature; one that is not like all others ends the
// operation, so it needs no further check.
inline constexpr std::size_t kSignatureBytes = 8;
std::array<std::byte, kSignatureBytes> encode(const Signature& signature) noexcept;
wire::Bytes encode(std::span<const Signature> signatures);
Signature decode_signature(std::span<const std::byte, kSignatureBytes> message);

// What a survivor forwards to one that is behind. The body follows: the result, or the signatures of a mismatch.
struct OutcomeHeader {
  Step outcome = Step::done;  // done or mismatch
  int contributors = 1;       // members of the view in which the operation ended
};
inline constexpr std::size_t kOutcomeHeaderBytes = 5;
inline constexpr int kContributorsMax = 4096;  // as many ranks as a signature can name
wire::Bytes encode(const OutcomeHeader& header);
Result<OutcomeHeader> decode_outcome_header(std::span<const std::byte> message);

// What a member tells all others on entering a view, of each channel: the last operation whose outcome it has seen, and
// whether it retains it. A newcomer has nothing of the operations before it came.
struct LastOutcome {
  std::uint64_t sequence = 0;  // below 2^63
  bool retained = true;
  friend bool operator==(const LastOutcome&, const LastOutcome&) = default;
};
using LastOutcomes = std::array<LastOutcome, kChannelCount>;
inline constexpr std::size_t kLastOutcomesBytes = 8 * kChannelCount;
wire::Bytes encode(const LastOutcomes& outcomes);
Result<LastOutcomes> decode_last_outcomes(std::span<const std::byte> message);

}  // namespace hora::collectives
