// What becomes of the operations under way when the view changes (protocol law 3), decided from the reports of the
// frozen members. Pure functions; the bytes travel inside promises and installs.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "base/wire.h"
#include "hora/view.hpp"
#include "interfaces/group_transport.h"

namespace hora::recovery {

wire::Bytes encode_reports(std::span<const ChannelReport> reports);
wire::Bytes encode_verdicts(std::span<const ChannelVerdict> verdicts);
// kChannelCount entries each; nullopt when malformed.
std::optional<std::vector<ChannelReport>> decode_reports(std::span<const std::byte> bytes);
std::optional<std::vector<ChannelVerdict>> decode_verdicts(std::span<const std::byte> bytes);

// One verdict for each channel, from the reports of the survivors and of those who leave in order. A survivor without a
// readable report counts as one that has done nothing and started nothing, which is only right where the channel was
// never used: hand in all of them.
//  - committed: what is DONE at a survivor is DONE. Survivors differ by at most one operation. What is DONE at a leaver
//    alone counts where all share memory, which the others still read. Elsewhere nobody could send it to them: it is
//    done again without the leaver, which left before the job was known to hold its result.
//  - the operation after it is BROKEN where it expired at a survivor, where its root is gone (broadcast), or where its
//    shape changed (allgather); RESUME where it may have overwritten inputs and a unit of it is known to be reduced;
//    else REDO.
std::vector<ChannelVerdict> decide(const View& old, const View& next,
                                   const std::map<MemberId, std::vector<ChannelReport>>& reports);

}  // namespace hora::recovery
