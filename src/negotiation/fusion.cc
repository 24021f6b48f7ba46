#include "negotiation/fusion.h"

namespace hora::negotiation {

void Fusion::clear() noexcept {
  group_.clear();
  full_ = false;
}

void Fusion::offer(TensorId id, const Request& request) {
  if (full_) return;
  const Signature& offered = request.signature;
  if (group_.empty()) {
    group_.push_back(id);
    signature_ = offered;
    full_ = offered.kind != Collective::allreduce || request.bytes() >= bytes_max_;
    return;
  }
  if (offered.kind != signature_.kind || offered.dtype != signature_.dtype || offered.op != signature_.op) return;
  const std::uint64_t count = signature_.count + offered.count;
  if (count >= kElementsLimit || count * size_of(signature_.dtype) > bytes_max_) {
    full_ = true;
    return;
  }
  group_.push_back(id);
  signature_.count = count;
  full_ = group_.size() == kGroupTensorsMax;
}

}  // namespace hora::negotiation
