// How the protocols of the control plane share it: the first byte of a message says whose it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/wire.h"
#include "interfaces/messenger.h"
#include "transports/control/mesh.h"

namespace hora::engine {

enum class Subject : std::uint8_t { membership = 1, negotiation = 2, joining = 3, flush = 4, device = 5 };

wire::Bytes with_subject(Subject subject, std::span<const std::byte> message);

// Sends the engine's messages of one subject over the mesh.
class SubjectLink final : public Messenger {
 public:
  SubjectLink(control::Mesh& mesh, Subject subject) noexcept : mesh_(mesh), subject_(subject) {}
  Status send(MemberId to, std::span<const std::byte> message) override;

 private:
  control::Mesh& mesh_;
  const Subject subject_;
};

}  // namespace hora::engine
