// Sleeps in the kernel until a stream is ready or somebody calls.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "base/time.h"
#include "base/unique_fd.h"
#include "transports/tcp/stream.h"

namespace hora::tcp {

// No wake-up is lost. Who wakes first changes the word that the sleeper tests and then calls wake(); the sleeper first
// calls begin() and then tests the word. Both calls exchange the same atomic, so one of them comes second and sees the
// other: either wake() finds a sleeper and writes the eventfd, which epoll finds however late it begins to wait, or
// begin() has synchronised with wake(), and the test that follows sees the changed word.
class Sleeper {
 public:
  Sleeper(UniqueFd epoll, UniqueFd event) noexcept : epoll_(std::move(epoll)), event_(std::move(event)) {}

  void begin() noexcept;
  // From now on epoll waits for `events` on the stream; 0: for nothing, not even its end.
  void watch(Stream& stream, std::uint32_t events) noexcept;
  void wait(Duration timeout) noexcept;
  void end() noexcept;
  // Thread safe.
  void wake() noexcept;

 private:
  const UniqueFd epoll_;
  const UniqueFd event_;
  std::atomic<bool> asleep_{false};
};

}  // namespace hora::tcp
