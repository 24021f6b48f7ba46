// One operation of a test: its inputs, the memory it works on, and what must come out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "hora/types.hpp"
#include "interfaces/operation.h"

namespace hora::conformance {

struct Workload {
  Signature signature;
  bool in_place = false;   // of an allgather: every source is where its part of the target is
  bool fused = false;      // three tensors, one of them empty
  std::uint64_t seed = 0;  // of the inputs
};
std::string describe(const Workload& workload);

// The memory of one rank for one operation, with guards around every target. Does not move: the extents point into it.
class Tensors {
 public:
  Tensors(const Workload& workload, int rank, int size);
  Tensors(const Tensors&) = delete;
  Tensors& operator=(const Tensors&) = delete;

  [[nodiscard]] Operation operation(Channel channel, std::uint64_t sequence) const {
    return {channel, sequence, workload_.signature, extents_};
  }
  // The targets in one piece; of an allgather one rank after the other.
  [[nodiscard]] std::vector<std::byte> result() const;
  // Nothing was written beside the targets, and no source that is not a target was written at all.
  [[nodiscard]] bool intact_around() const;
  // ... and no target either.
  [[nodiscard]] bool untouched() const;

 private:
  // `bytes` of memory at `offset`, between guards.
  struct Block {
    std::vector<std::byte> memory;
    std::vector<std::byte> before;  // its contents at the beginning
    std::size_t offset = 0;
    std::size_t bytes = 0;
    std::byte* data() { return memory.data() + offset; }
  };
  Block make_block(std::size_t bytes) const;
  std::byte* source_of(std::size_t tensor);

  const Workload workload_;
  const int rank_;
  const int size_;
  std::vector<Block> sources_;  // of each tensor; unused where it is in place
  std::vector<Block> targets_;
  std::vector<std::size_t> tensor_bytes_;
  std::vector<Extent> extents_;
};

// What `rank` contributes.
std::vector<std::byte> input_of(const Workload& workload, int rank);
// What is wrong with a result of an operation among `size` ranks; empty: nothing.
std::string check_result(const Workload& workload, int size, const std::vector<std::byte>& result);

}  // namespace hora::conformance
