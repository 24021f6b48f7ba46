#include "negotiation/messages.h"

#include <catch2/catch.hpp>

#include "base/random.h"
#include "cluster.h"

using namespace hora;
using namespace hora::negotiation;

namespace {

constexpr Epoch kEpoch{7};
constexpr int kSize = 4;

std::vector<Message> samples() {
  const std::vector<std::int64_t> shape{3, 4};
  return {Announce{"layer.1.weight", 5, Request(allreduce(12), shape)},
          Ready{{{1, 2, 3}, {4, 5, 6}}},
          Define{9, "v"},
          Append{11, {1, 2, 3}},
          Reject{"w", 3, StatusCode::timed_out, "rank 1 is late"},
          Stall{"tensor 'w' waits"}};
}

}  // namespace

TEST_CASE("every message survives its codec") {
  for (const Message& message : samples()) {
    const wire::Bytes bytes = encode(kEpoch, message);
    CHECK(decode(bytes, kEpoch, kSize) == message);
    CHECK(epoch_of(bytes) == kEpoch);
    CHECK_FALSE(decode(bytes, Epoch{8}, kSize).has_value());
  }
}

TEST_CASE("a message that is cut or too long is refused") {
  for (const Message& message : samples()) {
    wire::Bytes bytes = encode(kEpoch, message);
    for (std::size_t size = 0; size < bytes.size(); ++size)
      CHECK_FALSE(decode(std::span(bytes).first(size), kEpoch, kSize).has_value());
    bytes.push_back(std::byte{0});
    CHECK_FALSE(decode(bytes, kEpoch, kSize).has_value());
  }
  CHECK_FALSE(epoch_of({}).has_value());
}

TEST_CASE("values out of range are refused") {
  const std::vector<std::int64_t> none;
  const std::vector<std::int64_t> shape{3, 5};
  Signature signature = allreduce(12);
  const auto refused = [](const Message& message) {
    return !decode(encode(kEpoch, message), kEpoch, kSize).has_value();
  };
  CHECK(refused(Announce{"", 1, Request(signature, none)}));
  CHECK(refused(Announce{std::string(kNameBytesMax + 1, 'x'), 1, Request(signature, none)}));
  CHECK(refused(Announce{"w", 1, Request(signature, shape)}));
  CHECK(refused(Announce{"w", 1, Request()}));
  signature.root = Rank{kSize};
  CHECK(refused(Announce{"w", 1, Request(signature, none)}));
  signature = allreduce(12, static_cast<DataType>(kDataTypeCount));
  CHECK(refused(Announce{"w", 1, Request(signature, none)}));
  signature = allreduce(12, DataType::int8, static_cast<ReduceOp>(kReduceOpCount));
  CHECK(refused(Announce{"w", 1, Request(signature, none)}));
  CHECK(refused(Ready{}));
  CHECK(refused(Ready{{{kTensorsMax, 1, 0}}}));
  CHECK(refused(Ready{{{1, 1, UINT64_MAX}}}));
  CHECK(refused(Define{kTensorsMax, "w"}));
  CHECK(refused(Append{1, {}}));
  CHECK(refused(Append{1, std::vector<TensorId>(kGroupTensorsMax + 1)}));
  CHECK(refused(Reject{"w", 1, StatusCode::ok, ""}));
  CHECK(refused(Stall{std::string(kTextBytesMax + 1, 'x')}));
}

TEST_CASE("garbage is refused, or is the one encoding of a message") {
  for (std::uint64_t seed = 1; seed <= 2000; ++seed) {
    INFO("seed " << seed);
    Random random(seed);
    const std::vector<Message> messages = samples();
    wire::Bytes bytes = encode(kEpoch, messages[random.below(messages.size())]);
    for (std::uint64_t changes = 1 + random.below(4); changes > 0; --changes)
      bytes[random.below(bytes.size())] = static_cast<std::byte>(random.next());
    const std::optional<Message> message = decode(bytes, kEpoch, kSize);
    if (message) REQUIRE(encode(kEpoch, *message) == bytes);
  }
}
