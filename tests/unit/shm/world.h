// Members that share memory, all in this process: their segments, views and groups, and the inputs and expected outputs
// of operations between them. Stepped by one thread, every interleaving is a choice of the test.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "base/random.h"
#include "hora/view.hpp"
#include "transports/shm/group.h"

namespace hora::shm::test {

// Small chunks, so that a few kilobytes make many.
inline constexpr SegmentLayout kSmallLayout{4096, 1024};

// Passes a descriptor between processes.
bool send_fd(int socket, int fd);
UniqueFd receive_fd(int socket);

std::unique_ptr<Segment> make_segment(MemberId owner, const SegmentLayout& layout = kSmallLayout);

View make_view(int size, std::uint64_t epoch = 1);
// `view` without the ranks in `gone`, one epoch later.
View without(const View& view, const std::vector<int>& gone);

// Segments and groups of `size` members of one view; member ids are 100, 101, ...
struct World {
  explicit World(int size, const SegmentLayout& layout = kSmallLayout);
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  View view;
  std::vector<std::unique_ptr<Segment>> segments;
  std::vector<std::unique_ptr<ShmGroup>> groups;
};

// What rank `rank` has in the tensors of one operation, and what it must have afterwards.
struct Buffers {
  Buffers() = default;
  Buffers(Buffers&&) = default;
  Buffers& operator=(Buffers&&) = default;
  std::vector<std::vector<std::byte>> sources;
  std::vector<std::vector<std::byte>> targets;
  std::vector<Extent> extents;
};

// Tensors of `counts` elements each. In place where `in_place` (allreduce and broadcast).
struct Shape {
  Signature signature;
  std::vector<std::size_t> counts;
  bool in_place = false;
};

Shape make_shape(Collective kind, DataType dtype, ReduceOp op, std::vector<std::size_t> counts, bool in_place,
                 int root = 0);

// Element i of rank r: small numbers, exact in every type, that reveal rank and place.
Buffers make_buffers(const Shape& shape, int rank, int size);
// Outputs of every tensor, as bytes, of an operation between ranks 0 to size - 1.
std::vector<std::vector<std::byte>> expected_outputs(const Shape& shape, int rank, int size);

}  // namespace hora::shm::test
