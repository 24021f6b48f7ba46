// What a member writes down before it speaks: promises, acceptances and installed decisions, as values and as bytes.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/wire.h"
#include "hora/view.hpp"

namespace hora::elastic {

// Orders the attempts to decide the successor of one view. Number 0 is "none yet".
struct Ballot {
  std::uint64_t number = 0;
  MemberId proposer;
  friend auto operator<=>(const Ballot&, const Ballot&) = default;
};

// Why a member of the old view is not in the next one.
struct Departure {
  MemberId member;
  std::string cause;
  bool certain = false;  // it is known to decide nothing more; otherwise it was only suspected
  bool left = false;     // it asked to leave: not a failure
  friend bool operator==(const Departure&, const Departure&) = default;
};

// The value that the members of a view decide once: its successor, and what becomes of every operation under way.
struct Decision {
  View next;
  wire::Bytes verdict;  // of MembershipOptions::decide; opaque here
  std::vector<Departure> departures;
  friend bool operator==(const Decision&, const Decision&) = default;
};

struct Acceptance {
  Ballot ballot;
  Decision decision;
  friend bool operator==(const Acceptance&, const Acceptance&) = default;
};

// The last word of a member, kept where it outlives its writer (protocol law 1). Promise and acceptance are about the
// successor of `epoch`; an acceptance for another view means nothing and is never kept.
struct Record {
  Epoch epoch;                        // of the installed view; 0, and nothing else, for who was in none yet
  std::optional<Decision> installed;  // the decision that led to it; absent in the founding view
  Ballot promised;
  std::optional<Acceptance> accepted;
  friend bool operator==(const Record&, const Record&) = default;
};

void encode(wire::Writer& out, const Member& member);
void encode(wire::Writer& out, const AgreedConfig& config);
void encode(wire::Writer& out, const View& view);
void encode(wire::Writer& out, const Ballot& ballot);
void encode(wire::Writer& out, const Decision& decision);
void encode(wire::Writer& out, const Acceptance& acceptance);

// On malformed input these fail the reader; the value returned is then meaningless.
Member decode_member(wire::Reader& in);
AgreedConfig decode_config(wire::Reader& in);
View decode_view(wire::Reader& in);
Ballot decode_ballot(wire::Reader& in);
Decision decode_decision(wire::Reader& in);
Acceptance decode_acceptance(wire::Reader& in);

// The bytes carry a checksum, so that a record torn by its writer's death is recognised.
wire::Bytes encode_record(const Record& record);
std::optional<Record> decode_record(std::span<const std::byte> bytes);

}  // namespace hora::elastic
