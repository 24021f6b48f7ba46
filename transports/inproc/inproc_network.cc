#include "transports/inproc/inproc_network.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>

namespace hora::inproc {
namespace {

// The longest sleep where the kernel cannot wait on two words at once (before Linux 5.16).
constexpr Duration kBlindSleep = std::chrono::milliseconds(1);

timespec to_timespec(Duration duration) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(duration);
  return {static_cast<time_t>(seconds.count()), static_cast<long>((duration - seconds).count())};
}

timespec monotonic_after(Duration duration) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return to_timespec(std::chrono::seconds(now.tv_sec) + Duration(now.tv_nsec) + duration);
}

}  // namespace

void InprocNetwork::Bell::ring() {
  rings.fetch_add(1);
  if (asleep.load()) ::syscall(SYS_futex, &rings, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
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
  const auto is_past = [&](const Message& message) {
    return message.tag.epoch < tag.epoch || (message.tag.epoch == tag.epoch && message.tag.sequence < tag.sequence);
  };
  if (std::erase_if(queue, is_past) != 0) ring(link.from);
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
  futex_waitv words[2] = {
      {rings_seen_, reinterpret_cast<std::uintptr_t>(&bell_.rings), FUTEX_32 | FUTEX_PRIVATE_FLAG, 0},
      {seen, reinterpret_cast<std::uintptr_t>(&wake_word), FUTEX_32 | FUTEX_PRIVATE_FLAG, 0},
  };
  const timespec deadline = monotonic_after(timeout);
  if (::syscall(SYS_futex_waitv, words, 2, 0, &deadline, CLOCK_MONOTONIC) >= 0 || errno != ENOSYS) return;
  if (wake_word.load() != seen) return;
  const timespec blind = to_timespec(std::min(timeout, kBlindSleep));
  ::syscall(SYS_futex, &bell_.rings, FUTEX_WAIT_PRIVATE, rings_seen_, &blind, nullptr, 0);
}

void InprocPair::end_sleep() {
  bell_.asleep.store(false);
}

}  // namespace hora::inproc
