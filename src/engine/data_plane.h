// Builds the data plane of a session, and feeds it the links of members: shared segments or sockets, by the transport
// that the founders agreed on.
#pragma once

#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "hora/view.hpp"
#include "interfaces/board.h"
#include "interfaces/group_transport.h"
#include "interfaces/pair_transport.h"
#include "transports/shm/group.h"
#include "transports/shm/segment.h"
#include "transports/tcp/socket_pairs.h"

namespace hora::engine {

// Not thread safe: the session's thread until open(), then the sentinel's.
class DataPlane {
 public:
  // `own` outlives it, and so does `founding_links`: those of the founding view, where it has others than the later
  // ones (null otherwise). `on_fault` hears of links that failed.
  DataPlane(MemberId self, const AgreedConfig& config, shm::Segment& own, PairTransport* founding_links,
            tcp::SocketPairs::FaultHandler on_fault)
      : self_(self), config_(config), own_(own), founding_links_(founding_links), on_fault_(std::move(on_fault)) {}

  // What came with the link to a member: its segment (null where it shares no memory) and its data sockets (none where
  // all share memory). All that can be wanting is made now, while whoever is new can still be refused.
  Status add(MemberId member, std::shared_ptr<const shm::Segment> segment, std::vector<UniqueFd> sockets);
  // What came with the link of a member that is in no view any more, nor will be; once the last view is installed.
  void forget(MemberId member);
  // Enters `view`, to all of whose members there are links, with `done` operations behind it. Once.
  Result<GroupTransport*> open(const View& view, const Positions& done);
  // `next` is about to be installed, and nothing moves meanwhile: its newcomers' links are the group's now.
  Status prepare(const View& next);
  // The board of a view that the group has entered; null where members share no memory.
  [[nodiscard]] std::unique_ptr<Board> make_board(const View& view) const;

 private:
  Result<GroupTransport*> open_shared(const View& view, const Positions& done);
  Status connect(MemberId member);
  [[nodiscard]] std::vector<const shm::Segment*> segments_of(const View& view) const;

  const MemberId self_;
  const AgreedConfig config_;
  shm::Segment& own_;
  PairTransport* const founding_links_;
  const tcp::SocketPairs::FaultHandler on_fault_;
  std::map<MemberId, std::shared_ptr<const shm::Segment>> segments_;
  std::map<MemberId, std::unique_ptr<tcp::Link>> links_;  // until the group has them
  std::unique_ptr<GroupTransport> group_;
  shm::ShmGroup* shm_ = nullptr;       // group_, where the transport is shm
  tcp::SocketPairs* pairs_ = nullptr;  // the links of group_, where it is not
  View view_;                          // installed last
};

}  // namespace hora::engine
