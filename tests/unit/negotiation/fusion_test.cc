#include "negotiation/fusion.h"

#include <catch2/catch.hpp>

#include "cluster.h"

using namespace hora;
using namespace hora::negotiation;

namespace {

Request request(const Signature& signature) {
  return {signature, {}};
}

std::vector<TensorId> fuse(std::uint64_t bytes_max, const std::vector<Signature>& offered) {
  Fusion fusion(bytes_max);
  for (TensorId id = 0; id < offered.size(); ++id) fusion.offer(id, request(offered[id]));
  return fusion.group();
}

}  // namespace

TEST_CASE("fuses allreduces of one dtype and op, whatever lies between them") {
  const auto other_dtype = allreduce(1, DataType::float64);
  const auto other_op = allreduce(1, DataType::float32, ReduceOp::max);
  CHECK(fuse(1024, {allreduce(1), other_dtype, allreduce(2), other_op, {}, allreduce(3)}) ==
        std::vector<TensorId>{0, 2, 5});
  CHECK(fuse(1024, {{}, {}, allreduce(1)}) == std::vector<TensorId>{0});
}

TEST_CASE("keeps a group within its bytes, and a larger tensor alone") {
  CHECK(fuse(16, {allreduce(2), allreduce(2), allreduce(1)}) == std::vector<TensorId>{0, 1});
  CHECK(fuse(16, {allreduce(5), allreduce(0)}) == std::vector<TensorId>{0});
  CHECK(fuse(16, {allreduce(1), allreduce(4), allreduce(1)}) == std::vector<TensorId>{0});
  CHECK(fuse(0, {allreduce(0), allreduce(0)}) == std::vector<TensorId>{0});
  CHECK(fuse(UINT64_MAX, {allreduce(kElementsLimit - 1), allreduce(1)}) == std::vector<TensorId>{0});
}

TEST_CASE("is full when nothing submitted later can join") {
  Fusion fusion(16);
  CHECK_FALSE(fusion.full());
  fusion.offer(0, request(allreduce(2)));
  CHECK_FALSE(fusion.full());
  fusion.offer(1, request(allreduce(3)));
  CHECK(fusion.full());
  fusion.clear();
  CHECK_FALSE(fusion.full());
  fusion.offer(2, request({}));
  CHECK(fusion.full());
}

TEST_CASE("a group has a limited number of tensors") {
  CHECK(fuse(1 << 20, std::vector<Signature>(2 * kGroupTensorsMax, allreduce(1))).size() == kGroupTensorsMax);
}
