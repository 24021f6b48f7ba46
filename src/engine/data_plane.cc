#include "engine/data_plane.h"

#include <fmt/format.h>

#include <utility>

#include "collectives/schedule_group.h"
#include "engine/founding_links.h"
#include "transports/shm/board.h"

namespace hora::engine {

Status DataPlane::add(MemberId member, std::shared_ptr<const shm::Segment> segment, std::vector<UniqueFd> sockets) {
  if (!sockets.empty()) {
    auto link = tcp::Link::create(std::move(sockets));
    if (!link.ok()) return link.status();
    links_[member] = std::move(link).value();
  }
  if (segment) segments_[member] = std::move(segment);
  return {};
}

void DataPlane::forget(MemberId member) {
  segments_.erase(member);
  links_.erase(member);
}

std::vector<const shm::Segment*> DataPlane::segments_of(const View& view) const {
  std::vector<const shm::Segment*> segments;
  for (const Member& member : view.members)
    segments.push_back(member.id == self_ ? &own_ : segments_.at(member.id).get());
  return segments;
}

Result<GroupTransport*> DataPlane::open(const View& view, const Positions& done) {
  if (config_.transport == Transport::shm) return open_shared(view, done);
  auto pairs = tcp::SocketPairs::create(on_fault_);
  if (!pairs.ok()) return pairs.status();
  pairs_ = pairs.value().get();
  HORA_TRY(prepare(view));
  std::unique_ptr<PairTransport> links = std::move(pairs).value();
  if (founding_links_ != nullptr) links = std::make_unique<FoundingLinks>(*founding_links_, std::move(links));
  group_ = std::make_unique<collectives::ScheduleGroup>(std::move(links), self_, view, done);
  return group_.get();
}

Result<GroupTransport*> DataPlane::open_shared(const View& view, const Positions& done) {
  for (const Member& member : view.members) {
    if (member.id != self_ && !segments_.contains(member.id))
      return Status(StatusCode::unsupported,
                    "a member of another host cannot take part where all share memory (HORA_TRANSPORT=shm)");
  }
  auto group = std::make_unique<shm::ShmGroup>(own_, segments_of(view), view, done);
  shm_ = group.get();
  group_ = std::move(group);
  view_ = view;
  return group_.get();
}

Status DataPlane::prepare(const View& next) {
  for (const Member& member : next.members)
    if (member.id != self_ && !view_.rank_of(member.id)) HORA_TRY(connect(member.id));
  view_ = next;
  return {};
}

Status DataPlane::connect(MemberId member) {
  if (pairs_ != nullptr) {
    auto link = links_.extract(member);
    if (!link.empty()) pairs_->add(member, std::move(link.mapped()));
    return {};  // else it was lost before: it is silent, and a later view drops it
  }
  const auto segment = segments_.find(member);
  if (segment == segments_.end())
    return {StatusCode::internal, fmt::format("there is no segment of newcomer {:x}", member.value)};
  shm_->meet(*segment->second);
  return {};
}

std::unique_ptr<Board> DataPlane::make_board(const View& view) const {
  if (shm_ == nullptr) return nullptr;
  return std::make_unique<shm::ShmBoard>(own_, segments_of(view), view.epoch);
}

}  // namespace hora::engine
