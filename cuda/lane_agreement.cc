// From single tensors to the device operations of all members: what they tell each other, and what follows from it.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cuda/lane.h"

namespace hora::cuda {

namespace {

// Positions in the record of a request. All are reduced by `min`; of a value and its complement that gives the least
// and the greatest that a member said.
enum RequestEntry : std::size_t { kStands, kStandsNot, kSignature, kSignatureNot, kRoot, kRootNot, kDone };

std::string describe(const Signature& signature) {
  std::string text = to_string(signature.kind);
  if (signature.kind == Collective::allreduce) text += fmt::format(" {}", to_string(signature.op));
  return text + fmt::format(" of {} {}", signature.count, to_string(signature.dtype));
}

Signature signature_of(std::int64_t packed) {
  return Signature::unpack(static_cast<std::uint64_t>(packed));
}

bool fuse(const Signature& first, const Signature& second) {
  return first.kind == Collective::allreduce && second.kind == first.kind && second.dtype == first.dtype &&
         second.op == first.op;
}

}  // namespace

void Lane::agree(Request& request) {
  // Said before anything is enqueued: a member without memory for the stage would have to give the communicator up.
  const bool takes_part =
      usable() && gpu_->has_device_block(request.request.count * staging_of(request.request).element_bytes);
  const std::int64_t stands = takes_part ? generation_ : 0;
  const auto signature = static_cast<std::int64_t>(request.request.pack());
  const auto root = static_cast<std::int64_t>(request.root_member.value);
  request.record_ = {stands, ~stands, signature, ~signature, root, ~root, static_cast<std::int64_t>(done_)};
  auto* bytes = reinterpret_cast<std::byte*>(request.record_.data());
  const std::string name = request.tensor.empty() ? "hora:device" : fmt::format("hora:device:{}", request.tensor);
  plane_.run(name, {Collective::allreduce, DataType::int64, ReduceOp::min, Rank{0}, request.record_.size()}, {},
             {bytes, bytes, sizeof request.record_}, request);
}

void Lane::agreed(Request& request, const Ending& ending) {
  if (ending.status.ok() && broken_.ok())
    group_.push_back(&request);
  else if (!broken_.ok())
    finish(request, {broken_, ending.epoch, 0, false});
  else
    finish(request, ending);
}

// The communicator that all members have said stands, or nothing: then the host carries the tensor.
std::optional<Generation> Lane::path_of(const Request& request, Status& error) const {
  const auto& record = request.record_;
  const auto differs = [&](RequestEntry value, RequestEntry complement) {
    return record[value] != ~record[complement];
  };
  if (differs(kSignature, kSignatureNot) || differs(kRoot, kRootNot)) {
    const Signature one = signature_of(record[kSignature]), other = signature_of(~record[kSignatureNot]);
    error = Status(StatusCode::mismatch,
                   fmt::format("device tensor{}{} differs between ranks: one called {}, another one {}{}",
                               request.tensor.empty() ? "" : " ", request.tensor, describe(one), describe(other),
                               differs(kRoot, kRootNot) ? ", from different roots" : ""));
    return std::nullopt;
  }
  if (differs(kStands, kStandsNot) || record[kStands] != generation_ || generation_ == 0) return std::nullopt;
  return generation_;
}

// What was agreed in one operation of the host is agreed to be in it, so all members fuse the same tensors.
void Lane::form_batches() {
  std::vector<Request*> fused;
  Generation path = 0;
  std::uint64_t bytes = 0;
  for (Request* request : std::exchange(group_, {})) {
    Status error;
    const Generation own = path_of(*request, error).value_or(0);
    if (!error.ok()) {
      finish(*request, {error, generation_epoch_, 0, false});
      continue;
    }
    if (own != 0) stable_ = std::max(stable_, static_cast<std::uint64_t>(request->record_[kDone]));
    if (!fused.empty() && (own != path || !fuse(fused.front()->request, request->request) ||
                           bytes + request->memory.bytes > fusion_bytes_ || fused.size() == kPiecesMost)) {
      add_batch(std::exchange(fused, {}), path);
      bytes = 0;
    }
    fused.push_back(request);
    path = own;
    bytes += request->memory.bytes;
  }
  if (!fused.empty()) add_batch(std::move(fused), path);
}

void Lane::add_batch(std::vector<Request*> requests, Generation generation) {
  Batch& batch = *batches_.emplace_back(std::make_unique<Batch>(*this));
  batch.index = next_index_++;
  batch.signature = requests.front()->request;
  batch.signature.count = 0;
  for (const Request* request : requests) batch.signature.count += request->request.count;
  batch.root = requests.front()->root_member;
  batch.staging = staging_of(batch.signature);
  batch.requests = std::move(requests);
  batch.generation = generation;
  batch.ending = {{}, generation_epoch_, generation_size_, false};
  if (generation == 0) return;
  batch.position = ++positions_;
  batch.state = usable() ? BatchState::queued : BatchState::frozen;
}

}  // namespace hora::cuda
