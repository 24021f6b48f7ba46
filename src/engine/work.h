// One operation that a caller submitted: its request, and its result when it has ended.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "hora/hora.hpp"
#include "interfaces/operation.h"

namespace hora {
class Errand;
}

namespace hora::engine {

class WorkOwner;

// What ranks and sizes mean to a caller: those of the view that it saw when it called.
struct Meaning {
  Epoch epoch;
  MemberId root;  // of a broadcast
  int size = 0;   // members; of an allgather
};
// Throws Error where the root of `signature` is no rank of `seen`.
[[nodiscard]] Meaning meaning_of(const Signature& signature, const View& seen);

// Makes the input of an allgather that lies in its output the part of `self` there, over which no other part is
// written. So no rank refuses a call that another one makes.
void place_own_part(const Signature& signature, Extent& extent, const View& view, MemberId self) noexcept;

// Owned by a WorkPool; references (of the caller's Handle, and of whoever executes it) keep it from being used again.
// Written by the holder of the token until finish(), read by anybody after done().
class Work {
 public:
  explicit Work(WorkOwner& maker) noexcept : owner(maker) {}

  // acquire: whoever sees it done sees the result and the targets.
  [[nodiscard]] bool done() const noexcept { return done_.load(std::memory_order_acquire) != 0; }
  void finish(Status result, const Outcome& how) {
    status = std::move(result);
    outcome = how;
    done_.store(1, std::memory_order_seq_cst);  // seq_cst: who waits for it is read afterwards
  }
  void reset() noexcept {
    status = Status();
    errand = nullptr;
    done_.store(0, std::memory_order_relaxed);  // relaxed: nobody else has it
  }

  WorkOwner& owner;
  std::string name;     // negotiated front only
  Signature signature;  // its root is a rank of the engine's view
  Meaning meaning;
  std::vector<std::int64_t> shape;
  Extent extent;
  std::size_t position = 0;  // in Engine::negotiated_, while accepted
  bool accepted = false;
  Errand* errand = nullptr;  // who is told of the end, where it is no caller
  Status status;
  Outcome outcome;
  std::atomic<int> references{0};

 private:
  std::atomic<std::uint32_t> done_{0};
};

// Translates what the caller meant to `view`: roots are members, and ranks only their positions. An error where the
// call cannot be there.
Status bind(Work& work, const View& view);

}  // namespace hora::engine
