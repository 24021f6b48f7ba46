#include "transports/tcp/sleeper.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>

namespace hora::tcp {
namespace {

int wait_for_events(int epoll, std::span<epoll_event> events, Duration timeout) noexcept {
  const auto count = static_cast<int>(events.size());
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timespec precise{static_cast<time_t>(seconds.count()), static_cast<long>((timeout - seconds).count())};
  const int ready = ::epoll_pwait2(epoll, events.data(), count, &precise, nullptr);
  if (ready >= 0 || errno == EINTR) return ready;
  // Before Linux 5.11, or where the filter of an older container refuses it; never shorter than asked for, and never so
  // long that the count overflows.
  const auto rough = std::chrono::ceil<std::chrono::milliseconds>(std::min<Duration>(timeout, std::chrono::hours(1)));
  return ::epoll_wait(epoll, events.data(), count, static_cast<int>(rough.count()));
}

}  // namespace

void Sleeper::begin() noexcept {
  asleep_.exchange(true, std::memory_order_acq_rel);  // see the class
}

void Sleeper::end() noexcept {
  asleep_.store(false, std::memory_order_relaxed);  // a call that comes too late only ends the next sleep early
}

void Sleeper::wake() noexcept {
  if (!asleep_.exchange(false, std::memory_order_acq_rel)) return;  // see the class
  const std::uint64_t one = 1;
  // It cannot fail: nobody writes so often that the count overflows.
  [[maybe_unused]] const ssize_t written = ::write(event_.get(), &one, sizeof(one));
}

void Sleeper::watch(Stream& stream, std::uint32_t events) noexcept {
  if (stream.registered_events == events) return;
  epoll_event event{};
  event.events = events;
  event.data.fd = stream.fd();
  const int change = events == 0 ? EPOLL_CTL_DEL : stream.registered_events == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  if (::epoll_ctl(epoll_.get(), change, stream.fd(), &event) == 0) stream.registered_events = events;
}

void Sleeper::wait(Duration timeout) noexcept {
  std::array<epoll_event, 16> events;
  const int ready = wait_for_events(epoll_.get(), events, std::max(timeout, Duration(0)));
  for (int i = 0; i < ready; ++i) {
    if (events[static_cast<std::size_t>(i)].data.fd != event_.get()) continue;
    std::uint64_t calls = 0;
    [[maybe_unused]] const ssize_t read = ::read(event_.get(), &calls, sizeof(calls));
  }
}

}  // namespace hora::tcp
