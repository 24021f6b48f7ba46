#include "perf/meeting_point.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include <chrono>
#include <span>
#include <utility>
#include <vector>

#include "base/unique_fd.h"

namespace hora::perf {

namespace {

constexpr auto kPatience = std::chrono::minutes(1);
constexpr int kSpinsBeforeYield = 50;
constexpr int kSpinsBetweenClocks = 4096;

void pause_briefly() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void* map_shared(int fd, std::size_t bytes) {
  void* base = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  return base == MAP_FAILED ? nullptr : base;
}

}  // namespace

MeetingPoint::MeetingPoint(Communicator& comm, bool crowded)
    : comm_(comm),
      rank_(comm.rank()),
      size_(comm.size()),
      crowded_(crowded),
      mapping_bytes_(sizeof(Slot) * static_cast<std::size_t>(size_ + 1)) {
  std::vector<std::int64_t> ticket = {0, -1, 0};  // pid, descriptor, nonce
  UniqueFd fd;
  if (rank_ == 0) {
    fd.reset(::memfd_create("hora-perf", MFD_CLOEXEC));
    if (fd && ::ftruncate(fd.get(), static_cast<off_t>(mapping_bytes_)) == 0) {
      slots_ = static_cast<Slot*>(map_shared(fd.get(), mapping_bytes_));
    }
    std::uint64_t nonce = 0;
    if (slots_ != nullptr && ::getrandom(&nonce, sizeof nonce, 0) == sizeof nonce) {
      // Relaxed: the broadcast below orders it.
      slots_[0].value.store(nonce, std::memory_order_relaxed);
      ticket = {::getpid(), fd.get(), static_cast<std::int64_t>(nonce)};
    }
  }
  comm_.broadcast(std::span(ticket), 0);
  if (rank_ != 0 && ticket[1] >= 0) {
    fd.reset(::open(fmt::format("/proc/{}/fd/{}", ticket[0], ticket[1]).c_str(), O_RDWR | O_CLOEXEC));
    const bool long_enough = fd && ::lseek(fd.get(), 0, SEEK_END) == static_cast<off_t>(mapping_bytes_);
    if (long_enough) slots_ = static_cast<Slot*>(map_shared(fd.get(), mapping_bytes_));
  }
  const bool mine =
      slots_ != nullptr && slots_[0].value.load(std::memory_order_relaxed) == static_cast<std::uint64_t>(ticket[2]);
  std::vector<std::int32_t> usable = {mine && ticket[1] >= 0 ? 1 : 0};
  // Also keeps rank 0's descriptor open until all have opened it.
  comm_.allreduce(std::span(usable), ReduceOp::min);
  if (usable[0] == 0 && slots_ != nullptr) ::munmap(std::exchange(slots_, nullptr), mapping_bytes_);
}

MeetingPoint::~MeetingPoint() {
  if (slots_ != nullptr) ::munmap(slots_, mapping_bytes_);
}

const char* MeetingPoint::description() const noexcept {
  return slots_ != nullptr ? "in shared memory" : "at the library's barrier";
}

void MeetingPoint::meet() {
  if (slots_ == nullptr) {
    comm_.barrier();
    return;
  }
  // Release, so that what this rank did before is seen by those that leave.
  slots_[1 + rank_].value.store(++turn_, std::memory_order_release);
  for (int rank = 0; rank < size_; ++rank) await(rank);
}

void MeetingPoint::await(int rank) {
  // Acquire pairs with the release of meet().
  const auto arrived = [&] { return slots_[1 + rank].value.load(std::memory_order_acquire) >= turn_; };
  std::chrono::steady_clock::time_point begin{};
  for (int spins = 1; !arrived(); ++spins) {
    if (crowded_ && spins > kSpinsBeforeYield) {
      ::sched_yield();
    } else {
      pause_briefly();
    }
    if (spins % kSpinsBetweenClocks != 0) continue;
    const auto now = std::chrono::steady_clock::now();
    if (begin == std::chrono::steady_clock::time_point{}) begin = now;
    if (now - begin > kPatience) {
      throw Error(
          Status(StatusCode::timed_out, fmt::format("rank {} did not come to the meeting before a call", rank)));
    }
    spins = kSpinsBeforeYield;
  }
}

}  // namespace hora::perf
