#include "engine/subject_link.h"

namespace hora::engine {

wire::Bytes with_subject(Subject subject, std::span<const std::byte> message) {
  wire::Bytes bytes;
  bytes.reserve(message.size() + 1);
  bytes.push_back(static_cast<std::byte>(subject));
  bytes.insert(bytes.end(), message.begin(), message.end());
  return bytes;
}

Status SubjectLink::send(MemberId to, std::span<const std::byte> message) {
  return mesh_.send(to, with_subject(subject_, message));
}

}  // namespace hora::engine
