#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "emulated_machine.h"

namespace hora::emulated {

namespace {

using cuda::NcclCode;
using cuda::NcclOp;
using cuda::NcclType;

constexpr NcclCode kSystemError = 2, kInvalidUsage = 5, kRemoteError = 6;
constexpr int kLeftovers = 0xee;  // of an aborted operation

// What the ranks of one unique id share.
struct Clique {
  int size = 0;
  int joined = 0;
  int connected = 0;  // have called their first operation
  // By number of the operation: what each rank has given.
  std::map<std::uint64_t, std::vector<std::vector<std::byte>>> given;
};

struct Communicator {
  Device* device = nullptr;
  std::shared_ptr<Clique> clique;
  int rank = 0;
  std::uint64_t operations = 0;
  std::uint64_t number = 0;  // of all that were made
  int pending = 0;           // operations on streams
  bool aborted = false;      // or revoked
};

// Under the machine's lock.
std::map<std::uint64_t, std::shared_ptr<Clique>>& cliques() {
  static std::map<std::uint64_t, std::shared_ptr<Clique>> cliques;
  return cliques;
}

bool has(const std::map<int, std::uint64_t>& fault, const Communicator& communicator) {
  const auto found = fault.find(communicator.rank);
  return found != fault.end() && communicator.number <= found->second;
}

template <typename T>
void reduce_as(NcclOp op, std::byte* into, const std::byte* from, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    T left, right;
    std::memcpy(&left, into + i * sizeof(T), sizeof(T));
    std::memcpy(&right, from + i * sizeof(T), sizeof(T));
    switch (op) {
      case NcclOp::sum: left = static_cast<T>(left + right); break;
      case NcclOp::product: left = static_cast<T>(left * right); break;
      case NcclOp::min: left = std::min(left, right); break;
      case NcclOp::max: left = std::max(left, right); break;
    }
    std::memcpy(into + i * sizeof(T), &left, sizeof(T));
  }
}

void reduce(NcclType type, NcclOp op, std::byte* into, const std::byte* from, std::size_t count) {
  switch (type) {
    case NcclType::int8: return reduce_as<std::int8_t>(op, into, from, count);
    case NcclType::uint8: return reduce_as<std::uint8_t>(op, into, from, count);
    case NcclType::int32: return reduce_as<std::int32_t>(op, into, from, count);
    case NcclType::int64: return reduce_as<std::int64_t>(op, into, from, count);
    case NcclType::float32: return reduce_as<float>(op, into, from, count);
    case NcclType::float64: return reduce_as<double>(op, into, from, count);
  }
}

std::size_t bytes_of(NcclType type) {
  switch (type) {
    case NcclType::int8:
    case NcclType::uint8: return 1;
    case NcclType::int32:
    case NcclType::float32: return 4;
    default: return 8;
  }
}

// Under the machine's lock.
Communicator& communicator_of(void* handle) {
  if (!machine().communicators.contains(handle)) {
    std::fputs("a communicator was used after it was freed\n", stderr);
    std::abort();
  }
  return *static_cast<Communicator*>(handle);
}

// Enqueues operation number `operations` of the communicator; `combine` makes the result of what all have given.
template <typename Combine>
NcclCode enqueue(void* handle, const void* source, void* target, std::size_t bytes, void* stream, Combine combine) {
  auto* communicator = static_cast<Communicator*>(handle);
  std::uint64_t number = 0;
  {
    const std::lock_guard lock(machine().mutex);
    if (communicator_of(handle).aborted) return kInvalidUsage;
    if (machine().refusing.erase(communicator->rank) > 0) return kSystemError;
    number = communicator->operations++;
    if (number == 0) ++communicator->clique->connected;
    ++communicator->pending;
    ++machine().nccl_operations;
  }
  Device& device = static_cast<Stream*>(stream)->device;
  static_cast<Stream*>(stream)->enqueue([=, &device] {
    const auto clique = communicator->clique;
    const auto rank = static_cast<std::size_t>(communicator->rank);
    std::unique_lock lock(machine().mutex);
    Machine& world = machine();
    const bool hangs = has(world.hanging, *communicator) || has(world.failing, *communicator);
    const bool loses = has(world.lossy, *communicator);
    auto& given = clique->given[number];
    given.resize(static_cast<std::size_t>(clique->size));
    if (!hangs) {
      const auto* from = static_cast<const std::byte*>(source);
      given[rank].assign(from, from + bytes);
      given[rank].push_back(std::byte{1});  // even where it is nothing
      world.changed.notify_all();
    }
    world.changed.wait(lock, [&] {
      const bool complete =
          std::all_of(given.begin(), given.end(), [](const auto& of_rank) { return !of_rank.empty(); });
      return device.lost || communicator->aborted || (complete && !hangs && !loses);
    });
    if (device.lost || communicator->aborted)
      std::memset(target, kLeftovers, bytes);
    else
      combine(given, static_cast<std::byte*>(target));
    --communicator->pending;
    world.changed.notify_all();
  });
  return number == 0 ? cuda::kNcclInProgress : cuda::kNcclSuccess;
}

NcclCode create(void** handle, int size, cuda::NcclUniqueId id, int rank, cuda::NcclConfig*) {
  std::uint64_t key = 0;
  std::memcpy(&key, id.bytes.data(), sizeof key);
  const std::lock_guard lock(machine().mutex);
  auto& known = cliques()[key];
  if (!known) known = std::make_shared<Clique>();
  auto* communicator = new Communicator;
  communicator->device = current_device();
  communicator->clique = known;
  communicator->rank = rank;
  communicator->number = ++machine().communicators_made;
  communicator->clique->size = size;
  if (++communicator->clique->joined == size) cliques().erase(key);
  ++machine().live.communicators;
  machine().communicators.insert(communicator);
  *handle = communicator;
  return cuda::kNcclInProgress;
}

NcclCode revoke(void* handle, int flags) {
  if (flags != 0) return kInvalidUsage;
  const std::lock_guard lock(machine().mutex);
  communicator_of(handle).aborted = true;
  machine().changed.notify_all();
  return cuda::kNcclSuccess;
}

// Ends the operations, and then frees memory, for which it waits as everybody who does.
NcclCode abort(void* handle) {
  std::unique_lock lock(machine().mutex);
  auto* communicator = &communicator_of(handle);
  communicator->aborted = true;
  machine().changed.notify_all();
  Device& device = *communicator->device;
  machine().changed.wait(lock, [&] { return communicator->pending == 0 || device.lost; });
  wait_for_idle(device, lock);
  --machine().live.communicators;
  machine().communicators.erase(handle);
  delete communicator;
  return cuda::kNcclSuccess;
}

NcclCode state(void* handle, NcclCode* code) {
  const std::lock_guard lock(machine().mutex);
  const Communicator* communicator = &communicator_of(handle);
  const Clique& clique = *communicator->clique;
  const bool connects = communicator->operations > 0 && clique.connected < clique.size;
  *code = has(machine().failing, *communicator)     ? kRemoteError
          : clique.joined < clique.size || connects ? cuda::kNcclInProgress
                                                    : cuda::kNcclSuccess;
  return cuda::kNcclSuccess;
}

}  // namespace

void fill_nccl(cuda::Nccl& nccl, bool can_revoke) {
  nccl.error_text = [](NcclCode) { return "emulated NCCL error"; };
  nccl.unique_id = [](cuda::NcclUniqueId* id) -> NcclCode {
    static std::uint64_t last = 0;
    const std::lock_guard lock(machine().mutex);
    *id = {};
    const std::uint64_t key = ++last;
    std::memcpy(id->bytes.data(), &key, sizeof key);
    return cuda::kNcclSuccess;
  };
  nccl.communicator_create = create;
  nccl.communicator_abort = abort;
  nccl.communicator_revoke = can_revoke ? &revoke : nullptr;
  nccl.communicator_state = state;
  nccl.allreduce = [](const void* source, void* target, std::size_t count, NcclType type, NcclOp op, void* communicator,
                      void* stream) -> NcclCode {
    const std::size_t bytes = count * bytes_of(type);
    return enqueue(communicator, source, target, bytes, stream, [=](const auto& given, std::byte* into) {
      std::memcpy(into, given[0].data(), bytes);
      for (std::size_t rank = 1; rank < given.size(); ++rank) reduce(type, op, into, given[rank].data(), count);
    });
  };
  nccl.broadcast = [](const void* source, void* target, std::size_t count, NcclType type, int root, void* communicator,
                      void* stream) -> NcclCode {
    const std::size_t bytes = count * bytes_of(type);
    return enqueue(communicator, source, target, bytes, stream, [=](const auto& given, std::byte* into) {
      std::memcpy(into, given[static_cast<std::size_t>(root)].data(), bytes);
    });
  };
}

std::uint64_t nccl_operations() {
  const std::lock_guard lock(machine().mutex);
  return machine().nccl_operations;
}

std::uint64_t communicators_made() {
  const std::lock_guard lock(machine().mutex);
  return machine().communicators_made;
}

void let_rank_hang(int rank) {
  const std::lock_guard lock(machine().mutex);
  machine().hanging[rank] = machine().communicators_made;
}
void let_result_be_lost(int rank) {
  const std::lock_guard lock(machine().mutex);
  machine().lossy[rank] = machine().communicators_made;
}
void let_rank_fail(int rank) {
  const std::lock_guard lock(machine().mutex);
  machine().failing[rank] = machine().communicators_made;
}
void let_call_fail(int rank) {
  const std::lock_guard lock(machine().mutex);
  machine().refusing.insert(rank);
}

}  // namespace hora::emulated
