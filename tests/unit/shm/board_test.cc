#include "transports/shm/board.h"

#include <catch2/catch.hpp>
#include <numeric>

#include "unit/shm/world.h"

namespace hora::shm::test {
namespace {

struct Boards {
  explicit Boards(int size) : world(size) { renew(world.view.epoch); }
  void renew(Epoch epoch) {
    boards.clear();
    std::vector<const Segment*> members;
    for (const auto& segment : world.segments) members.push_back(segment.get());
    for (const auto& segment : world.segments) boards.push_back(std::make_unique<ShmBoard>(*segment, members, epoch));
  }
  World world;
  std::vector<std::unique_ptr<ShmBoard>> boards;
};

TEST_CASE("ready words are seen by all and belong to one view") {
  Boards job(2);
  CHECK(job.boards[1]->ready(Rank{0}, 5) == 0);
  job.boards[0]->post_ready(5, 1);
  job.boards[0]->post_ready(kBoardTensors - 1, 3);
  CHECK(job.boards[1]->ready(Rank{0}, 5) == 1);
  CHECK(job.boards[0]->ready(Rank{0}, kBoardTensors - 1) == 3);
  CHECK(job.boards[1]->ready(Rank{1}, 5) == 0);
  job.renew(Epoch{2});
  CHECK(job.boards[1]->ready(Rank{0}, 5) == 0);
  CHECK(job.boards[1]->capacity() == kBoardTensors);
}

TEST_CASE("groups are read in order by everybody") {
  Boards job(3);
  Random random(1);
  std::vector<std::vector<TensorId>> posted(1);
  std::vector<std::uint64_t> next(3, 1);
  for (int i = 0; i < 20000; ++i) {
    if (random.chance(1, 3)) {
      std::vector<TensorId> group(random.below(50));
      std::iota(group.begin(), group.end(), static_cast<TensorId>(posted.size()));
      if (job.boards[0]->append(posted.size(), group)) posted.push_back(group);
    }
    const std::size_t reader = random.below(3);
    std::vector<TensorId> group;
    if (!job.boards[reader]->read(next[reader], group)) {
      CHECK(next[reader] == posted.size());
      continue;
    }
    REQUIRE(group == posted[next[reader]]);
    ++next[reader];
  }
  CHECK(posted.size() > 3000);
}

TEST_CASE("a log that somebody has not read is full, by groups and by tensors") {
  for (const std::size_t length : {std::size_t{1}, std::size_t{kBoardTensors}}) {
    Boards job(2);
    std::vector<TensorId> group(length, 9);
    const std::uint64_t most = length == 1 ? kLogEntries : kLogIds / kBoardTensors;
    std::vector<TensorId> read;
    for (std::uint64_t position = 1; position <= most; ++position) {
      REQUIRE(job.boards[0]->append(position, group));
      REQUIRE(job.boards[0]->read(position, read));
    }
    CHECK(!job.boards[0]->append(most + 1, group));
    REQUIRE(job.boards[1]->read(1, read));
    CHECK(read == group);
    CHECK(job.boards[0]->append(most + 1, group));
    CHECK(!job.boards[0]->append(most + 2, group));
  }
}

TEST_CASE("the log starts anew in a new view") {
  Boards job(2);
  std::vector<TensorId> group;
  REQUIRE(job.boards[0]->append(1, std::vector<TensorId>{1, 2}));
  REQUIRE(job.boards[1]->read(1, group));
  const View next = without(job.world.view, {});
  const std::vector<ChannelVerdict> verdicts(kChannelCount);
  for (const auto& member : job.world.groups) member->install(next, verdicts);
  job.renew(next.epoch);
  CHECK(!job.boards[1]->read(1, group));
  REQUIRE(job.boards[0]->append(1, std::vector<TensorId>{3}));
  REQUIRE(job.boards[1]->read(1, group));
  CHECK(group == std::vector<TensorId>{3});
}

}  // namespace
}  // namespace hora::shm::test
