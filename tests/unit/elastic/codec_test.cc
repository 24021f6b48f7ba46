#include <catch2/catch.hpp>

#include "base/random.h"
#include "elastic/messages.h"
#include "elastic/record.h"

using namespace hora;
using namespace hora::elastic;

namespace {

View sample_view() {
  View view;
  view.epoch = Epoch{4};
  view.members = {{MemberId{10}, 1, "unix:a"}, {MemberId{12}, 2, "tcp:b:1"}};
  view.config.min_size = 2;
  view.config.chunk_bytes = 4096;
  return view;
}

Decision sample_decision() {
  return {sample_view(), {std::byte{1}, std::byte{2}}, {{MemberId{11}, "its process died", true, false}}};
}

Record sample_record() {
  Record record;
  record.epoch = Epoch{4};
  record.installed = sample_decision();
  record.promised = {3, MemberId{10}};
  Decision next = sample_decision();
  next.next.epoch = Epoch{5};
  record.accepted = Acceptance{{3, MemberId{10}}, next};
  return record;
}

std::vector<Message> samples() {
  const Acceptance acceptance{{2, MemberId{10}}, sample_decision()};
  return {Heartbeat{Epoch{3}},
          Prepare{Epoch{3}, {2, MemberId{10}}},
          Promise{Epoch{3}, {2, MemberId{10}}, {std::byte{7}}, std::nullopt},
          Promise{Epoch{3}, {3, MemberId{12}}, {}, acceptance},
          Accept{Epoch{3}, acceptance},
          Accepted{Epoch{3}, {2, MemberId{10}}},
          Refuse{Epoch{3}, {9, MemberId{12}}},
          Decided{sample_decision()},
          Leave{Epoch{3}},
          Died{Epoch{3}, MemberId{11}, std::nullopt},
          Died{Epoch{3}, MemberId{11}, encode_record(sample_record())}};
}

}  // namespace

TEST_CASE("messages_survive_the_round_trip") {
  for (const Message& message : samples()) {
    INFO(to_string(message));
    const auto decoded = decode_message(encode_message(message));
    REQUIRE(decoded);
    CHECK(*decoded == message);
  }
}

TEST_CASE("every_truncation_and_extension_of_a_message_is_refused") {
  for (const Message& message : samples()) {
    INFO(to_string(message));
    wire::Bytes bytes = encode_message(message);
    for (std::size_t length = 0; length < bytes.size(); ++length)
      CHECK_FALSE(decode_message(std::span(bytes).first(length)));
    bytes.push_back(std::byte{0});
    CHECK_FALSE(decode_message(bytes));
  }
}

TEST_CASE("a_decoded_message_encodes_to_the_bytes_it_came_from") {
  // Bytes that are changed at random are either refused or mean exactly one message.
  Random random(20261121);
  for (const Message& message : samples()) {
    for (int trial = 0; trial < 300; ++trial) {
      wire::Bytes bytes = encode_message(message);
      bytes[random.below(bytes.size())] ^= static_cast<std::byte>(1 + random.below(255));
      const auto decoded = decode_message(bytes);
      if (decoded) CHECK(encode_message(*decoded) == bytes);
    }
  }
}

TEST_CASE("a_decision_about_another_view_is_refused") {
  const Acceptance acceptance{{2, MemberId{10}}, sample_decision()};
  CHECK_FALSE(decode_message(encode_message(Accept{Epoch{4}, acceptance})));
  CHECK_FALSE(decode_message(encode_message(Promise{Epoch{2}, {2, MemberId{10}}, {}, acceptance})));
  CHECK(decode_message(encode_message(Heartbeat{Epoch{0}})));  // of who is in no view yet
  CHECK_FALSE(decode_message(encode_message(Prepare{Epoch{0}, {1, MemberId{1}}})));
}

TEST_CASE("records_survive_the_round_trip_and_torn_ones_are_refused") {
  const wire::Bytes bytes = encode_record(sample_record());
  REQUIRE(decode_record(bytes));
  CHECK(*decode_record(bytes) == sample_record());
  for (std::size_t length = 0; length < bytes.size(); ++length)
    CHECK_FALSE(decode_record(std::span(bytes).first(length)));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    wire::Bytes torn = bytes;
    torn[at] ^= std::byte{0x40};
    CHECK_FALSE(decode_record(torn));
  }
}

TEST_CASE("a_view_with_a_repeated_member_is_refused") {
  View view = sample_view();
  view.members[1].id = view.members[0].id;
  CHECK_FALSE(decode_message(encode_message(Decided{{view, {}, {}}})));
}

TEST_CASE("a_view_that_the_store_decides_is_refused") {
  View view = sample_view();
  view.decider = Decider::store;
  CHECK_FALSE(decode_message(encode_message(Decided{{view, {}, {}}})));
}
