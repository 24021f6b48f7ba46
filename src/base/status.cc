#include "hora/status.hpp"

namespace hora {

const char* to_string(StatusCode code) noexcept {
  switch (code) {
    case StatusCode::ok: return "ok";
    case StatusCode::invalid_argument: return "invalid_argument";
    case StatusCode::mismatch: return "mismatch";
    case StatusCode::peer_failed: return "peer_failed";
    case StatusCode::fenced: return "fenced";
    case StatusCode::timed_out: return "timed_out";
    case StatusCode::try_again: return "try_again";
    case StatusCode::unsupported: return "unsupported";
    case StatusCode::resource: return "resource";
    case StatusCode::shut_down: return "shut_down";
    case StatusCode::internal: return "internal";
  }
  return "unknown";
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(hora::to_string(code())) + ": " + detail_->message;
}

}  // namespace hora
