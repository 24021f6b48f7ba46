#include "base/wire.h"

#include <catch2/catch.hpp>
#include <limits>
#include <string>
#include <vector>

namespace hora::wire {
namespace {

std::vector<int> numbers(std::span<const std::byte> bytes) {
  std::vector<int> all;
  for (const std::byte byte : bytes) all.push_back(std::to_integer<int>(byte));
  return all;
}

Bytes bytes_of(std::initializer_list<int> numbers) {
  Bytes bytes;
  for (const int number : numbers) bytes.push_back(static_cast<std::byte>(number));
  return bytes;
}

// The format of every message and record: a change here is a change of all of them.
TEST_CASE("integers_are_little_endian_and_blocks_carry_their_length") {
  Writer writer;
  writer.u8(0xfe);
  writer.u16(0x0102);
  writer.u32(0x01020304);
  writer.u64(0x0102030405060708);
  writer.boolean(true);
  writer.boolean(false);
  writer.string("hora");
  writer.bytes({});
  CHECK(numbers(writer.view()) == std::vector<int>{0xfe, 2, 1, 4, 3, 2, 1,   8,   7,   6,   5, 4, 3, 2, 1,
                                                   1,    0, 4, 0, 0, 0, 'h', 'o', 'r', 'a', 0, 0, 0, 0});
}

TEST_CASE("a_reader_gives_back_what_was_written") {
  Writer writer;
  writer.u8(255);
  writer.u16(65'535);
  writer.u32(std::numeric_limits<std::uint32_t>::max());
  writer.u64(std::numeric_limits<std::uint64_t>::max());
  writer.boolean(true);
  writer.string(std::string("a\0b", 3));
  const Bytes bytes = writer.take();
  CHECK(writer.view().empty());
  Reader reader(bytes);
  CHECK(reader.u8() == 255);
  CHECK(reader.u16() == 65'535);
  CHECK(reader.u32() == std::numeric_limits<std::uint32_t>::max());
  CHECK_FALSE(reader.finished());
  CHECK(reader.u64() == std::numeric_limits<std::uint64_t>::max());
  CHECK(reader.boolean());
  CHECK(reader.string() == std::string("a\0b", 3));
  CHECK(reader.finished());
}

TEST_CASE("a_read_past_the_end_fails_once_and_for_all") {
  const Bytes bytes = bytes_of({1, 2, 3});
  Reader reader(bytes);
  CHECK(reader.u32() == 0);
  CHECK_FALSE(reader.ok());
  // Three bytes are left, but a failed reader gives nothing more.
  CHECK(reader.u8() == 0);
  CHECK(reader.u16() == 0);
  CHECK(reader.bytes().empty());
  CHECK(reader.string().empty());
  CHECK_FALSE(reader.finished());
}

TEST_CASE("a_block_longer_than_the_rest_is_refused") {
  for (const int length : {4, 255}) {
    const Bytes bytes = bytes_of({length, 0, 0, 0, 'a', 'b', 'c'});
    Reader reader(bytes);
    CHECK(reader.bytes().empty());
    CHECK_FALSE(reader.ok());
  }
  const Bytes exact = bytes_of({3, 0, 0, 0, 'a', 'b', 'c'});
  Reader reader(exact);
  CHECK(reader.string() == "abc");
  CHECK(reader.finished());
}

TEST_CASE("a_count_is_never_more_than_the_rest_can_hold") {
  const auto count = [](Bytes bytes, std::size_t item_bytes_min) {
    Reader reader(bytes);
    const std::uint32_t items = reader.count(item_bytes_min);
    return reader.ok() ? static_cast<int>(items) : -1;
  };
  CHECK(count(bytes_of({2, 0, 0, 0, 9, 9, 9, 9}), 2) == 2);
  CHECK(count(bytes_of({3, 0, 0, 0, 9, 9, 9, 9}), 2) == -1);
  CHECK(count(bytes_of({0, 0, 0, 0}), 8) == 0);
  CHECK(count(bytes_of({255, 255, 255, 255, 0}), 1) == -1);
  // A product that does not fit 32 bits.
  CHECK(count(bytes_of({0, 0, 0, 32, 0, 0, 0, 0}), 8) == -1);
}

TEST_CASE("enumerators_and_truth_values_have_a_range") {
  const Bytes bytes = bytes_of({2, 3, 2});
  Reader reader(bytes);
  CHECK(reader.below(3) == 2);
  REQUIRE(reader.ok());
  CHECK(reader.below(3) == 0);
  CHECK_FALSE(reader.ok());
  const Bytes beyond = bytes_of({2});
  Reader truth(beyond);
  CHECK_FALSE(truth.boolean());
  CHECK_FALSE(truth.ok());
}

TEST_CASE("what_is_left_over_is_not_finished") {
  const Bytes bytes = bytes_of({1, 0});
  Reader reader(bytes);
  reader.u8();
  CHECK(reader.ok());
  CHECK_FALSE(reader.finished());
  reader.u8();
  CHECK(reader.finished());
  reader.fail();
  CHECK_FALSE(reader.finished());
}

}  // namespace
}  // namespace hora::wire
