// Every collective over shared memory, stepped by one thread in random order.
#include "transports/shm/group.h"

#include <algorithm>
#include <catch2/catch.hpp>

#include "unit/shm/world.h"

namespace hora::shm::test {
namespace {

// Steps members in random order until all operations ended; fails when that takes too long.
void run_to_end(World& world, Channel channel, std::vector<bool>& ended, Random& random, Step outcome = Step::done) {
  const auto size = static_cast<std::uint64_t>(world.groups.size());
  std::size_t left = static_cast<std::size_t>(std::count(ended.begin(), ended.end(), false));
  for (int i = 0; left > 0; ++i) {
    REQUIRE(i < 2'000'000);
    const std::size_t rank = random.below(size);
    if (ended[rank]) continue;
    const Step step = world.groups[rank]->step(channel);
    if (step == Step::pending) continue;
    REQUIRE(step == outcome);
    ended[rank] = true;
    --left;
  }
}

void run_shape(World& world, const Shape& shape, std::uint64_t sequence, Random& random,
               Channel channel = Channel::ordered) {
  const int size = world.view.size();
  std::vector<Buffers> buffers;
  for (int rank = 0; rank < size; ++rank) buffers.push_back(make_buffers(shape, rank, size));
  std::vector<bool> ended(static_cast<std::size_t>(size));
  for (int rank = 0; rank < size; ++rank) {
    const auto r = static_cast<std::size_t>(rank);
    ended[r] = world.groups[r]->start({channel, sequence, shape.signature, buffers[r].extents}) != Step::pending;
  }
  run_to_end(world, channel, ended, random);
  for (int rank = 0; rank < size; ++rank) {
    INFO(to_string(shape.signature.kind) << " " << to_string(shape.signature.dtype) << " "
                                         << to_string(shape.signature.op) << " rank " << rank << " of " << size
                                         << " count " << shape.signature.count << (shape.in_place ? " in place" : ""));
    CHECK(world.groups[static_cast<std::size_t>(rank)]->contributors(channel) == size);
    const bool equal = buffers[static_cast<std::size_t>(rank)].targets == expected_outputs(shape, rank, size);
    REQUIRE(equal);
  }
}

TEST_CASE("every collective, type and size gives the same result on all ranks") {
  Random random(1);
  for (const int size : {1, 2, 3, 4, 7}) {
    World world(size);
    std::uint64_t sequence = 0;
    for (int d = 0; d < kDataTypeCount; ++d) {
      const auto dtype = static_cast<DataType>(d);
      for (const std::size_t count : {0, 1, 5, 12, 49, 511, 1025, 9001}) {
        for (const bool in_place : {false, true}) {
          for (int o = 0; o < kReduceOpCount; ++o) {
            const auto op = static_cast<ReduceOp>(o);
            if (!collectives::is_supported(dtype, op)) continue;
            run_shape(world, make_shape(Collective::allreduce, dtype, op, {count}, in_place), ++sequence, random);
          }
          run_shape(world, make_shape(Collective::broadcast, dtype, ReduceOp::sum, {count}, in_place, size / 2),
                    ++sequence, random);
          run_shape(world, make_shape(Collective::allgather, dtype, ReduceOp::sum, {count}, in_place), ++sequence,
                    random);
        }
      }
      run_shape(world, make_shape(Collective::barrier, DataType::uint8, ReduceOp::sum, {}, false), ++sequence, random);
    }
  }
}

TEST_CASE("fused groups are walked across tensor boundaries") {
  Random random(2);
  for (const int size : {2, 3, 4}) {
    World world(size);
    for (std::uint64_t sequence = 1; sequence <= 60; ++sequence) {
      std::vector<std::size_t> counts;
      for (std::uint64_t i = 0; i <= random.below(12); ++i)
        counts.push_back(random.below(3) == 0 ? 0 : random.below(1 << random.below(12)));
      const auto kind = static_cast<Collective>(random.below(3));
      run_shape(world, make_shape(kind, DataType::float32, ReduceOp::sum, counts, random.chance(1, 2)), sequence,
                random);
    }
  }
}

TEST_CASE("the two channels do not wait for each other") {
  Random random(3);
  World world(2);
  const Shape large = make_shape(Collective::allreduce, DataType::int32, ReduceOp::sum, {20000}, true);
  std::vector<Buffers> buffers;
  for (int rank = 0; rank < 2; ++rank) buffers.push_back(make_buffers(large, rank, 2));
  REQUIRE(world.groups[0]->start({Channel::ordered, 1, large.signature, buffers[0].extents}) == Step::pending);
  run_shape(world, make_shape(Collective::allreduce, DataType::float32, ReduceOp::max, {9000}, false), 1, random,
            Channel::negotiated);
  std::vector<bool> ended(2);
  world.groups[1]->start({Channel::ordered, 1, large.signature, buffers[1].extents});
  run_to_end(world, Channel::ordered, ended, random);
  CHECK((buffers[0].targets == expected_outputs(large, 0, 2)));
  CHECK((buffers[1].targets == expected_outputs(large, 1, 2)));
}

TEST_CASE("a caller may overwrite its tensors as soon as its operation ended") {
  Random random(4);
  for (const std::size_t count : {3, 100, 1200, 9000}) {
    World world(3);
    const Shape shape = make_shape(Collective::allreduce, DataType::int64, ReduceOp::sum, {count}, true);
    for (std::uint64_t sequence = 1; sequence <= 20; ++sequence) {
      std::vector<Buffers> buffers;
      std::vector<std::vector<std::vector<std::byte>>> results(3);
      for (int rank = 0; rank < 3; ++rank) buffers.push_back(make_buffers(shape, rank, 3));
      const auto end = [&](std::size_t rank) {
        results[rank] = buffers[rank].targets;
        for (auto& target : buffers[rank].targets) std::fill(target.begin(), target.end(), std::byte{0x55});
      };
      std::vector<bool> ended(3);
      for (std::size_t rank = 0; rank < 3; ++rank)
        world.groups[rank]->start({Channel::ordered, sequence, shape.signature, buffers[rank].extents});
      for (std::size_t left = 3, i = 0; left > 0; ++i) {
        REQUIRE(i < 100'000);
        const std::size_t rank = random.below(3);
        if (ended[rank] || world.groups[rank]->step(Channel::ordered) == Step::pending) continue;
        ended[rank] = true;
        end(rank);
        --left;
      }
      for (int rank = 0; rank < 3; ++rank)
        REQUIRE((results[static_cast<std::size_t>(rank)] == expected_outputs(shape, rank, 3)));
    }
  }
}

TEST_CASE("a disagreement is the same mismatch on every rank, writes nothing and harms no later operation") {
  Random random(5);
  const std::vector<Shape> others = {
      make_shape(Collective::allreduce, DataType::float32, ReduceOp::sum, {9001}, true),
      make_shape(Collective::allreduce, DataType::float32, ReduceOp::sum, {3}, true),
      make_shape(Collective::allreduce, DataType::int32, ReduceOp::sum, {9000}, true),
      make_shape(Collective::allreduce, DataType::float32, ReduceOp::max, {9000}, true),
      make_shape(Collective::allgather, DataType::float32, ReduceOp::sum, {9000}, false),
      make_shape(Collective::broadcast, DataType::float32, ReduceOp::sum, {9000}, true, 1),
      make_shape(Collective::barrier, DataType::uint8, ReduceOp::sum, {}, false),
  };
  World world(3);
  std::uint64_t sequence = 0;
  for (const Shape& other : others) {
    const Shape usual = make_shape(Collective::allreduce, DataType::float32, ReduceOp::sum, {9000}, true);
    std::vector<Buffers> buffers;
    std::vector<Signature> said;
    std::vector<bool> ended(3);
    ++sequence;
    for (int rank = 0; rank < 3; ++rank) {
      const Shape& shape = rank == 1 ? other : usual;
      buffers.push_back(make_buffers(shape, rank, 3));
      said.push_back(shape.signature);
    }
    std::vector<std::vector<std::vector<std::byte>>> before;
    for (const Buffers& of_rank : buffers) before.push_back(of_rank.targets);
    for (std::size_t rank = 0; rank < 3; ++rank)
      ended[rank] =
          world.groups[rank]->start({Channel::ordered, sequence, said[rank], buffers[rank].extents}) != Step::pending;
    run_to_end(world, Channel::ordered, ended, random, Step::mismatch);
    for (std::size_t rank = 0; rank < 3; ++rank) {
      CHECK(world.groups[rank]->signatures(Channel::ordered) == said);
      CHECK((buffers[rank].targets == before[rank]));
    }
    run_shape(world, usual, ++sequence, random);
  }
}

TEST_CASE("who has not started is named") {
  World world(3);
  const Shape shape = make_shape(Collective::barrier, DataType::uint8, ReduceOp::sum, {}, false);
  REQUIRE(world.groups[1]->start({Channel::ordered, 1, shape.signature, {}}) == Step::pending);
  CHECK(world.groups[1]->missing(Channel::ordered) == std::vector<Rank>{Rank{0}, Rank{2}});
  REQUIRE(world.groups[2]->start({Channel::ordered, 1, shape.signature, {}}) == Step::pending);
  CHECK(world.groups[1]->missing(Channel::ordered) == std::vector<Rank>{Rank{0}});
  CHECK(world.groups[0]->start({Channel::ordered, 1, shape.signature, {}}) == Step::done);
}

}  // namespace
}  // namespace hora::shm::test
