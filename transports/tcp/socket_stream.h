// A stream over one socket.
#pragma once

#include <utility>

#include "base/unique_fd.h"
#include "transports/tcp/stream.h"

namespace hora::tcp {

class SocketStream final : public Stream {
 public:
  // Non-blocking and connected.
  explicit SocketStream(UniqueFd socket) noexcept : socket_(std::move(socket)) {}

  Moved write(std::span<const iovec> pieces) noexcept override;
  Moved read(std::span<const iovec> pieces) noexcept override;
  bool arm(std::uint32_t& events) noexcept override;
  [[nodiscard]] int fd() const noexcept override { return socket_.get(); }

 private:
  UniqueFd socket_;
};

}  // namespace hora::tcp
