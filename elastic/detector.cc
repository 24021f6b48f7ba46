#include "elastic/detector.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace hora::elastic {

namespace {

constexpr std::size_t kStrangersMax = 64;

std::int64_t milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace

void Detector::enter(const View& view, MemberId self, TimePoint now) {
  silence_ = std::chrono::milliseconds(view.config.silence_ms);
  for (auto& [id, peer] : peers_) peer.in_view = false;
  for (const Member& member : view.members) {
    if (member.id == self) continue;
    Peer& peer = peers_[member.id];
    if (!std::exchange(peer.met, true)) {
      peer.host = member.host;
      peer.heard = now;
      if (peer.link_down) peer.link_down = now;  // a suspicion begins with the view
    }
    peer.in_view = true;
  }
  for (auto& [id, peer] : peers_)
    if (peer.met && !peer.in_view) peer.record.reset();  // it has voted
  std::erase_if(strangers_, [this](MemberId id) { return peers_[id].met; });
}

Peer* Detector::find(MemberId id) {
  const auto entry = peers_.find(id);
  return entry == peers_.end() || !entry->second.met ? nullptr : &entry->second;
}

const Peer* Detector::find(MemberId id) const {
  const auto entry = peers_.find(id);
  return entry == peers_.end() || !entry->second.met ? nullptr : &entry->second;
}

Peer& Detector::witness(MemberId id) {
  const auto [entry, added] = peers_.try_emplace(id);
  if (added) strangers_.push_back(id);
  if (strangers_.size() > kStrangersMax) {
    peers_.erase(strangers_.front());
    strangers_.pop_front();
  }
  return entry->second;
}

bool Detector::may_be_newcomer(MemberId id) const {
  const auto entry = peers_.find(id);
  return entry == peers_.end() || (!entry->second.met && !entry->second.dead && !entry->second.link_down);
}

void Detector::heard_from(MemberId id, TimePoint now) {
  Peer* peer = find(id);
  if (peer == nullptr) return;
  peer->heard = std::max(peer->heard, now);
  if (!peer->link_down) peer->suspicion.clear();
}

TimePoint Detector::limit(const Peer& peer) const {
  const TimePoint silent = peer.heard + silence_;
  return peer.link_down ? std::min(silent, *peer.link_down + link_grace_) : silent;
}

bool Detector::check(TimePoint now) {
  bool found = false;
  for (auto& [id, peer] : peers_) {
    if (!peer.in_view || !peer.alive() || now < limit(peer)) continue;
    peer.suspicion = peer.link_down ? std::string("its link was lost, and its process is not known to be dead")
                                    : fmt::format("silent for {} ms", milliseconds(now - peer.heard));
    found = true;
  }
  return found;
}

void Detector::forgive(TimePoint now) {
  for (auto& [id, peer] : peers_) {
    peer.heard = now;
    if (peer.link_down) peer.link_down = now;
  }
}

std::optional<TimePoint> Detector::next_check() const {
  std::optional<TimePoint> next;
  for (const auto& [id, peer] : peers_)
    if (peer.in_view && peer.alive() && (!next || limit(peer) < *next)) next = limit(peer);
  return next;
}

}  // namespace hora::elastic
