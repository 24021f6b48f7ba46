// One ordered stream of bytes in each direction between two members.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

namespace hora::tcp {

// What a call moved. Nothing, and not closed: it would have to wait.
struct Moved {
  std::size_t bytes = 0;
  bool closed = false;  // nothing will ever move again in this direction
  int error = 0;        // why: an errno, or 0 where the other end closed it
};

// Who waits for a stream asks for it between begin_sleep() and sleep() of the transport: await_input(), await_room().
class Stream {
 public:
  virtual ~Stream() = default;

  virtual Moved write(std::span<const iovec> pieces) noexcept = 0;
  virtual Moved read(std::span<const iovec> pieces) noexcept = 0;

  void await_input() noexcept { awaits_input_ = true; }
  void await_room() noexcept { awaits_room_ = true; }
  void await_nothing() noexcept { awaits_input_ = awaits_room_ = false; }

  // What epoll must wait for on fd(), so that whoever asked wakes up; false where there is no need to sleep.
  virtual bool arm(std::uint32_t& events) noexcept = 0;
  // The sleep is over.
  virtual void disarm() noexcept {}
  [[nodiscard]] virtual int fd() const noexcept = 0;

  // What epoll waits for on this stream at present; 0: it is not registered. Kept by Sleeper.
  std::uint32_t registered_events = 0;

 protected:
  bool awaits_input_ = false;
  bool awaits_room_ = false;
};

}  // namespace hora::tcp
