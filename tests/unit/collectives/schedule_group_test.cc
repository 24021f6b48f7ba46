// What the conformance suite does not see of a ScheduleGroup: results so long that they are handed out in pieces, and
// a peer that does not keep to the rules.
#include "collectives/schedule_group.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <vector>

#include "transports/inproc/inproc_network.h"

namespace hora::collectives {
namespace {

constexpr int kStepsMost = 10'000;  // a group that needs more hangs

View view_of(std::uint64_t epoch) {
  View view;
  view.epoch = Epoch{epoch};
  view.members = {{MemberId{10}, 1, ""}, {MemberId{11}, 1, ""}};
  view.config.transport = Transport::mixed;
  return view;
}

std::vector<ChannelVerdict> committed(std::uint64_t sequence) {
  std::vector<ChannelVerdict> verdicts(kChannelCount);
  verdicts[0].committed = sequence;
  return verdicts;
}

// One rank of an in-place sum.
struct Member {
  Member(inproc::InprocNetwork& network, int rank, std::size_t count)
      : group(std::make_unique<inproc::InprocPair>(network, MemberId{10 + static_cast<std::uint64_t>(rank)}),
              MemberId{10 + static_cast<std::uint64_t>(rank)}, view_of(1)),
        data(count, rank + 1) {}

  Step start() {
    auto* bytes = reinterpret_cast<std::byte*>(data.data());
    extents = {{bytes, bytes, data.size() * sizeof(std::int32_t)}};
    return group.start(
        {Channel::ordered, 1, {Collective::allreduce, DataType::int32, ReduceOp::sum, Rank{0}, data.size()}, extents});
  }

  ScheduleGroup group;
  std::vector<std::int32_t> data;
  std::vector<Extent> extents;
};

TEST_CASE("a_long_result_is_done_before_it_is_handed_out_and_a_view_change_leaves_it_alone") {
  constexpr std::size_t kCount = 20 << 20 >> 2;
  inproc::InprocNetwork network(4);
  Member first(network, 0, kCount), second(network, 1, kCount);
  first.start();
  second.start();
  for (int i = 0; i < kStepsMost && first.group.report(Channel::ordered).done == 0; ++i) {
    REQUIRE(first.group.step(Channel::ordered) == Step::pending);
    if (second.group.report(Channel::ordered).done == 0) second.group.step(Channel::ordered);
  }
  REQUIRE(first.group.report(Channel::ordered).done == 1);
  CHECK_FALSE(first.group.report(Channel::ordered).active);
  CHECK(first.data.back() == 1);

  const bool behind = second.group.report(Channel::ordered).done == 0;
  const bool broken = GENERATE(false, true);
  auto verdicts = committed(1);
  if (broken) verdicts[0].next = Fate::broken;
  first.group.install(view_of(2), verdicts);
  second.group.install(view_of(2), verdicts);
  INFO("behind: " << behind << ", the next one is broken: " << broken);
  Step ended[] = {Step::pending, Step::pending};
  for (int i = 0; i < kStepsMost && (ended[0] == Step::pending || ended[1] == Step::pending); ++i) {
    const std::uint64_t moves = first.group.moves();
    const bool moving = ended[0] == Step::pending;
    if (moving) ended[0] = first.group.step(Channel::ordered);
    if (moving) CHECK(first.group.moves() > moves);
    if (!moving) first.group.settle();
    if (ended[1] == Step::pending) ended[1] = second.group.step(Channel::ordered);
  }
  for (const Member* member : {&first, &second}) {
    CHECK(ended[member == &second] == Step::done);
    CHECK(std::ranges::all_of(member->data, [](std::int32_t value) { return value == 3; }));
    CHECK(member->group.report(Channel::ordered).done == (broken ? 2 : 1));
    CHECK(member->group.stable(Channel::ordered) == 0);
    CHECK(member->group.contributors(Channel::ordered) == 2);
  }
}

TEST_CASE("a_forwarded_outcome_of_another_number_of_ranks_is_not_believed") {
  constexpr std::size_t kParts = 5, kCount = 3;
  inproc::InprocNetwork network(4);
  inproc::InprocPair liar(network, MemberId{10});
  liar.enter(view_of(2));
  ScheduleGroup group(std::make_unique<inproc::InprocPair>(network, MemberId{11}), MemberId{11}, view_of(1));
  std::vector<std::int32_t> source(kCount, 1), target(kParts * kCount, -1);
  const std::vector<Extent> extents = {{reinterpret_cast<const std::byte*>(source.data()),
                                        reinterpret_cast<std::byte*>(target.data()), kCount * sizeof(std::int32_t)}};
  group.start({Channel::ordered, 1, {Collective::allgather, DataType::int32, ReduceOp::sum, Rank{0}, kCount}, extents});
  group.install(view_of(2), committed(1));

  LastOutcomes outcomes;
  outcomes[0].sequence = 1;
  const std::vector<std::byte> body(kParts * kCount * sizeof(std::int32_t));
  REQUIRE(liar.try_send(Rank{1}, {Epoch{2}, kChannelCount, 0, 0}, encode(outcomes)));
  REQUIRE(liar.try_send(Rank{1}, {Epoch{2}, 0, 1, 0}, encode(OutcomeHeader{Step::done, kParts})));
  REQUIRE(liar.try_send(Rank{1}, {Epoch{2}, 0, 1, 1}, body));
  for (int i = 0; i < 10; ++i) CHECK(group.step(Channel::ordered) == Step::pending);
  CHECK(std::ranges::all_of(target, [](std::int32_t value) { return value == -1; }));
}

}  // namespace
}  // namespace hora::collectives
