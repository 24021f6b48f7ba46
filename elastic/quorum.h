// Who may decide the successor of a view (protocol law 1).
#pragma once

#include <set>

#include "elastic/detector.h"
#include "elastic/record.h"
#include "hora/view.hpp"

namespace hora::elastic {

// More than half of the members of `view`, dead or alive; exactly half is enough with the first member among them.
bool is_majority(const View& view, const std::set<MemberId>& votes);

// Everybody but the certainly dead voted for `ballot`, and the last word of each dead one was read and promises nothing
// higher: then the dead vote through their records. A dead member without a readable record forbids it.
bool is_all_living(const View& view, const Ballot& ballot, const std::set<MemberId>& votes, const Detector& peers);

// Any two quorums, of promises to one ballot and of acceptances of a lower one, have a member or a read record in
// common.
inline bool is_quorum(const View& view, const Ballot& ballot, const std::set<MemberId>& votes, const Detector& peers) {
  return is_majority(view, votes) || is_all_living(view, ballot, votes, peers);
}

}  // namespace hora::elastic
