#include "elastic/quorum.h"

#include <algorithm>

namespace hora::elastic {

bool is_majority(const View& view, const std::set<MemberId>& votes) {
  const auto voted = std::count_if(view.members.begin(), view.members.end(),
                                   [&](const Member& member) { return votes.contains(member.id); });
  if (2 * voted == view.size()) return votes.contains(view.members.front().id);
  return 2 * voted > view.size();
}

bool is_all_living(const View& view, const Ballot& ballot, const std::set<MemberId>& votes, const Detector& peers) {
  return std::all_of(view.members.begin(), view.members.end(), [&](const Member& member) {
    if (votes.contains(member.id)) return true;
    const Peer* peer = peers.find(member.id);
    if (peer == nullptr || !peer->dead || !peer->record) return false;
    const Record& record = *peer->record;
    return record.epoch < view.epoch || (record.epoch == view.epoch && record.promised <= ballot);
  });
}

}  // namespace hora::elastic
