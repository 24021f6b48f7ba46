// A view: who is in the job, agreed by its members. The only thing that the elastic layer hands to the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hora/types.hpp"

namespace hora {

struct Member {
  MemberId id;
  // Equal for two members exactly when they can share memory: a hash of boot id and namespaces, never of a host name.
  std::uint64_t host = 0;
  std::string address;  // where its control socket listens
  friend bool operator==(const Member&, const Member&) = default;
};

// Who decides the successor of a view (protocol law 1). The store does not yet, and a view that says so is refused.
enum class Decider : std::uint8_t { members, store };

// How the members of a job move bytes. Chosen once, by the founders.
enum class Transport : std::uint8_t {
  shm,    // all members share memory: newcomers of another host are refused
  tcp,    // TCP between all members, also inside a host
  mixed,  // shared memory inside a host, TCP between hosts
  mpi,    // MPI while the founders, and nobody else, are in the job; as mixed from the first change on
};
inline constexpr std::uint8_t kTransportCount = 4;

// What all members of a view must agree on for their results and schedules to be the same. Fixed by the founder or the
// decider of the view; never read from a member's own environment afterwards.
struct AgreedConfig {
  std::uint32_t min_size = 1;             // fewer members than this: work fails
  std::uint32_t silence_ms = 3000;        // a rank whose sentinel is mute for this long is suspected
  std::uint64_t fusion_bytes = 16 << 20;  // most bytes of one fused group
  std::uint32_t chunk_bytes = 128 << 10;  // bytes of one rank's stage slot: a chunk of the pipelined two-shot
  std::uint32_t one_shot_bytes = 0;       // largest one-shot payload; 0: chosen from the number of ranks
  Transport transport = Transport::shm;
  std::uint32_t sockets_per_pair = 2;  // data connections of each channel between two members (not shm)
  friend bool operator==(const AgreedConfig&, const AgreedConfig&) = default;
};

// Immutable once installed. Ranks are positions in `members`.
struct View {
  Epoch epoch;
  std::vector<Member> members;
  Decider decider = Decider::members;
  AgreedConfig config;

  [[nodiscard]] int size() const noexcept { return static_cast<int>(members.size()); }
  [[nodiscard]] std::optional<Rank> rank_of(MemberId id) const noexcept {
    for (std::size_t i = 0; i < members.size(); ++i)
      if (members[i].id == id) return Rank{static_cast<std::int32_t>(i)};
    return std::nullopt;
  }
  friend bool operator==(const View&, const View&) = default;
};

}  // namespace hora
