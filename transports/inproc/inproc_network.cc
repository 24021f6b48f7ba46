#include "transports/inproc/inproc_network.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/futex.h"

namespace hora::inproc {

void InprocNetwork::Bell::ring() {
  rings.fetch_add(1);
  if (asleep.load()) futex_wake_all(rings);
}

void InprocNetwork::drop(MemberId member, InFlight in_flight) {
  const MutexLock lock(mutex_);
  dropped_.insert(member);
  if (in_flight == InFlight::lost)
    std::erase_if(queues_, [&](const auto& queue) { return queue.first.from == member; });
  for (const auto& [id, bell] : bells_) bell->ring();
}

InprocNetwork::Bell& InprocNetwork::attach(MemberId member) {
  const MutexLock lock(mutex_);
  auto& bell = bells_[member];
  if (!bell) bell = std::make_unique<Bell>();
  return *bell;
}

void InprocNetwork::ring(MemberId member) {
  if (const auto bell = bells_.find(member); bell != bells_.end()) bell->second->ring();
}

void InprocNetwork::purge(MemberId to, Epoch current) {
  const MutexLock lock(mutex_);
  for (auto& [link, queue] : queues_) {
    if (link.to != to) continue;
    if (std::erase_if(queue, [&](const Message& message) { return message.tag.epoch < current; }) != 0) ring(link.from);
  }
}

bool InprocNetwork::send(const Link& link, const Tag& tag, std::span<const std::byte> data) {
  const MutexLock lock(mutex_);
  if (dropped_.contains(link.from) || dropped_.contains(link.to)) return true;
  auto& queue = queues_[link];
  if (queue.size() >= capacity_) return false;
  queue.push_back({tag, {data.begin(), data.end()}});
  ring(link.to);
  return true;
}

Result<bool> InprocNetwork::receive(const Link& link, const Tag& tag, std::span<std::byte> data) {
  const MutexLock lock(mutex_);
  auto& queue = queues_[link];
  if (std::erase_if(queue, [&](const Message& message) { return is_past(message.tag, tag); }) != 0) ring(link.from);
  const auto found = std::ranges::find(queue, tag, &Message::tag);
  if (found == queue.end()) return false;
  if (found->data.size() != data.size())
    return Status(StatusCode::internal,
                  fmt::format("a message of {} bytes came where {} were expected", found->data.size(), data.size()));
  if (!data.empty()) std::memcpy(data.data(), found->data.data(), data.size());
  queue.erase(found);
  ring(link.from);
  return true;
}

InprocPair::InprocPair(InprocNetwork& network, MemberId self)
    : network_(network), self_(self), bell_(network.attach(self)) {}

void InprocPair::enter(const View& view) {
  view_ = view;
  network_.purge(self_, view_.epoch);
}

bool InprocPair::try_send(Rank to, const Tag& tag, std::span<const std::byte> data) {
  const bool taken = network_.send({self_, member(to), tag.channel}, tag, data);
  if (taken) ++moves_;
  return taken;
}

Result<bool> InprocPair::try_receive(Rank from, const Tag& tag, std::span<std::byte> data) {
  auto received = network_.receive({member(from), self_, tag.channel}, tag, data);
  if (received.ok() && received.value()) ++moves_;
  return received;
}

void InprocPair::begin_sleep() {
  bell_.asleep.store(true);
  rings_seen_ = bell_.rings.load();
}

void InprocPair::sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) {
  FutexWaitList words;
  words.add(bell_.rings, rings_seen_, FutexScope::process);
  words.add(wake_word, seen, FutexScope::process);
  words.wait(timeout);
}

void InprocPair::end_sleep() {
  bell_.asleep.store(false);
}

}  // namespace hora::inproc
