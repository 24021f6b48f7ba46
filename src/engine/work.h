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

class Front;

// Owned by the pool of its front; two references (the caller's Handle, the front) keep it from being reused. Written by
// the holder of the token until finish(), read by anybody after done().
class Work {
 public:
  explicit Work(Front& owner) noexcept : front(owner) {}

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
    references.store(2, std::memory_order_relaxed);
  }

  Front& front;
  std::string name;     // negotiated front only
  Signature signature;  // its root is a rank of the engine's view
  MemberId root;        // what the caller meant by it
  int size = 0;         // members in the view that the caller saw; of an allgather
  std::vector<std::int64_t> shape;
  Extent extent;
  std::uint32_t entry = 0;   // what the negotiator calls it in the current view
  std::size_t position = 0;  // in Engine::negotiated_, while accepted
  bool accepted = false;
  Errand* errand = nullptr;  // who is told of the end, where it is no caller
  Status status;
  Outcome outcome;
  std::atomic<int> references{2};

 private:
  std::atomic<std::uint32_t> done_{0};
};

}  // namespace hora::engine
