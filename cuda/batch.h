// The tensors that one device operation moves, and how far it is. Of the lane's thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/time.h"
#include "cuda/builder.h"
#include "cuda/ferry.h"
#include "cuda/gpu.h"
#include "cuda/request.h"

namespace hora::cuda {

enum class BatchState : std::uint8_t {
  queued,      // for the communicator, when there is room on the streams
  enqueued,    // NCCL and the copy-out are on their way; undecided
  frozen,      // was not copied out and will not be, until the members have agreed what becomes of it
  held,        // done here; the stage retains the result until it is known to be done everywhere
  waiting,     // to be carried by the host: has not begun
  filling,     // ... inputs are on their way to the host
  exchanging,  // ... the host's operation is under way
  emptying,    // ... the result is on its way to the device
  ended,
};

// What the host carries for a batch.
enum class Cargo : std::uint8_t {
  inputs,  // the operation is done, or done again, among the members of the current view
  result,  // it is done at a member: that one's result goes to the others
};

// What a batch borrows from the launch of its copy-out until it has ended.
struct OnStreams {
  DeviceBlock stage;
  Word word;
  EventHandle copied = nullptr;
  std::uint32_t held = 0;  // what the device's word reads, once it has been decided
  std::uint64_t commands = 0;
  TimePoint since;
};

// What a batch has at the host while it is carried.
struct Carried {
  Cargo cargo = Cargo::inputs;
  bool holds_result = false;
  std::unique_ptr<std::byte[]> memory;
  std::size_t bytes = 0;         // at the beginning of `memory`, and as many for the result in `arrived`
  std::byte* arrived = nullptr;  // null where it is the same memory
  Passage passage;
};

struct Batch : Errand {
  explicit Batch(Lane& owner) : lane(owner) {}
  void ended(const Ending& result) override;  // of the host's operation

  // The communicator was meant to move it, whatever became of that.
  [[nodiscard]] bool was_for_nccl() const noexcept { return generation != 0; }

  Lane& lane;
  std::vector<Request*> requests;  // in the order of the log; none once the caller has its result
  Signature signature;             // of all of them
  MemberId root;
  Staging staging;
  std::uint64_t index = 0;     // in the log of device operations
  Generation generation = 0;   // of the communicator; 0: meant for the host from the beginning
  std::uint64_t position = 0;  // 1, 2, ... on that communicator
  Ending ending;               // what callers are told
  BatchState state = BatchState::waiting;
  std::optional<OnStreams> on_streams;
  Carried carried;
};

}  // namespace hora::cuda
