// A stream through shared memory, between two members of one host. The Unix socket beside it only carries the memory
// itself, once, and then a byte whenever a sleeping peer is to wake; and it ends with the peer.
#pragma once

#include <memory>

#include "base/unique_fd.h"
#include "hora/status.hpp"
#include "transports/tcp/ring.h"
#include "transports/tcp/stream.h"

namespace hora::tcp {

// No wake-up is lost. A sleeper first says what it awaits and then looks once more whether it is there; who writes or
// reads first says how far it is and then looks whether the peer awaits it. All four are sequentially consistent, so at
// least one of the two sees what the other said.
//
// Until the peer's memory has come nothing is known of the peer: there is nothing to read, it has read nothing, and it
// cannot be asleep, since it sent its memory before it could be.
class RingStream final : public Stream {
 public:
  // Sends our memory through the socket, as the first thing that passes there.
  static Result<std::unique_ptr<RingStream>> create(UniqueFd socket);

  Moved write(std::span<const iovec> pieces) noexcept override;
  Moved read(std::span<const iovec> pieces) noexcept override;
  bool arm(std::uint32_t& events) noexcept override;
  void disarm() noexcept override;
  [[nodiscard]] int fd() const noexcept override { return socket_.get(); }

 private:
  RingStream(UniqueFd socket, Ring own) noexcept : socket_(std::move(socket)), own_(std::move(own)) {}
  void meet_peer() noexcept;
  void wake_peer(RingEvent event) noexcept;
  [[nodiscard]] std::uint64_t readable() const noexcept;
  [[nodiscard]] std::uint64_t room() const noexcept;

  UniqueFd socket_;
  Ring own_;
  Ring peer_;  // once it has come
  // Copies of what only we write.
  std::uint64_t produced_ = 0;
  std::uint64_t consumed_ = 0;
  bool armed_ = false;
  bool ended_ = false;  // the peer is gone, or does not keep to the rules
};

}  // namespace hora::tcp
