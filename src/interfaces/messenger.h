// The seam of the control plane: small messages between members, in order on each link.
#pragma once

#include <cstddef>
#include <span>

#include "hora/status.hpp"
#include "hora/types.hpp"

namespace hora {

class Messenger {
 public:
  virtual ~Messenger() = default;
  // Queues one message for `to` and returns; never blocks. Thread safe. A link that is down swallows it: the handler
  // learns of the link, not of the message. An error only when the link's queue is at its limit (the link is then
  // closed).
  virtual Status send(MemberId to, std::span<const std::byte> message) = 0;
};

class MessageHandler {
 public:
  virtual ~MessageHandler() = default;
  virtual void on_message(MemberId from, std::span<const std::byte> message) = 0;
  // At most once for a link; a link that is down stays down.
  virtual void on_link_down(MemberId peer) = 0;
};

}  // namespace hora
