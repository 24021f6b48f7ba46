// What a frozen node reports and what is decided from it: the channels, and the names behind the negotiated one. The
// same contents as the engine's.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/wire.h"
#include "hora/view.hpp"
#include "interfaces/group_transport.h"
#include "negotiation/messages.h"

namespace hora::sim {

struct Report {
  std::vector<ChannelReport> channels;
  std::uint64_t steps = 0;                      // that were begun
  bool between_steps = false;                   // no name was submitted that has not ended
  std::vector<std::string> group;               // names in the operation that the negotiated channel executes
  std::vector<negotiation::Reject> rejections;  // known in this view
};

struct Verdict {
  std::vector<ChannelVerdict> channels;
  std::vector<std::string> group;               // of the negotiated operation after the committed ones
  std::vector<negotiation::Reject> rejections;  // known to anybody who reported
};

wire::Bytes encode(const Report& report);
std::optional<Report> decode_report(std::span<const std::byte> bytes);
std::optional<Verdict> decode_verdict(std::span<const std::byte> bytes);

wire::Bytes decide(const View& old, const View& next, const std::map<MemberId, wire::Bytes>& reports);
// All have ended the same operations, and neither an operation nor a name is under way.
bool stand_at_boundary(const std::map<MemberId, wire::Bytes>& reports);

}  // namespace hora::sim
