#include "transports/shm/board.h"

#include <algorithm>
#include <cassert>

#include "transports/shm/read_barrier.h"

namespace hora::shm {

ShmBoard::ShmBoard(Segment& own, std::span<const Segment* const> members, Epoch epoch)
    : own_(own), members_(members.begin(), members.end()), epoch_(epoch), doorbell_(own, members) {}

void ShmBoard::post_ready(TensorId id, std::uint32_t submissions) {
  assert(id < kBoardTensors);
  own_.lines().ready[id].store(epoch_.value << 32 | submissions, std::memory_order_release);
  doorbell_.published();
}

std::uint32_t ShmBoard::ready(Rank rank, TensorId id) const {
  assert(id < kBoardTensors);
  const std::uint64_t word =
      members_[static_cast<std::size_t>(rank.value)]->lines().ready[id].load(std::memory_order_acquire);
  return word >> 32 == (epoch_.value & 0xffffffff) ? static_cast<std::uint32_t>(word) : 0;
}

std::uint64_t ShmBoard::least_read() const {
  std::uint64_t least = ~std::uint64_t{0};
  for (const Segment* member : members_) {
    const std::uint64_t read = member->lines().log_read.value.load(std::memory_order_acquire);
    const std::uint64_t start = make_tag(epoch_, 0);
    least = std::min(least, read >> 40 == start >> 40 ? read - start : 0);
  }
  return least;
}

bool ShmBoard::append(std::uint64_t position, std::span<const TensorId> group) {
  assert(!members_.empty() && members_[0]->member() == own_.member() && group.size() <= kLogIds);
  Lines& lines = own_.lines();
  const auto fits = [&] {
    if (position - least_read_ > kLogEntries) return false;
    if (least_read_ + 1 >= position) return true;  // everything has been read
    const LogEntry& oldest = lines.log[(least_read_ + 1) % kLogEntries];
    return ids_end_ + group.size() - oldest.begin.load(std::memory_order_relaxed) <= kLogIds;
  };
  if (!fits()) {
    least_read_ = least_read();
    if (!fits()) return false;
  }
  for (std::size_t i = 0; i < group.size(); ++i)
    lines.log_ids[(ids_end_ + i) % kLogIds].store(group[i], std::memory_order_relaxed);
  LogEntry& entry = lines.log[position % kLogEntries];
  entry.begin.store(ids_end_, std::memory_order_relaxed);
  entry.count.store(group.size(), std::memory_order_relaxed);
  ids_end_ += group.size();
  entry.tag.store(make_tag(epoch_, position), std::memory_order_release);
  doorbell_.published();
  return true;
}

bool ShmBoard::read(std::uint64_t position, std::vector<TensorId>& group) {
  const Lines& log = members_[0]->lines();
  const LogEntry& entry = log.log[position % kLogEntries];
  if (entry.tag.load(std::memory_order_acquire) != make_tag(epoch_, position)) return false;
  const std::uint64_t begin = entry.begin.load(std::memory_order_relaxed);
  const std::uint64_t count = std::min<std::uint64_t>(entry.count.load(std::memory_order_relaxed), kLogIds);
  group.resize(count);
  for (std::size_t i = 0; i < count; ++i) group[i] = log.log_ids[(begin + i) % kLogIds].load(std::memory_order_relaxed);
  // A coordinator that has left this view may have overwritten what was just read.
  read_barrier();
  if (log.ready_epoch.value.load(std::memory_order_relaxed) != epoch_.value) return false;
  own_.lines().log_read.value.store(make_tag(epoch_, position), std::memory_order_release);
  doorbell_.published();
  return true;
}

}  // namespace hora::shm
