// What ranks give and what they must get, in every element type.
#include "perf/elements.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <limits>
#include <vector>

namespace hora::perf {
namespace {

template <typename T>
std::vector<T> filled(DataType dtype, std::size_t count, double (*value)(std::uint64_t)) {
  std::vector<T> elements(count);
  Pattern(dtype, value).fill(std::as_writable_bytes(std::span(elements)));
  return elements;
}

double position_mod_seven(std::uint64_t position) {
  return static_cast<double>(position % 7);
}

template <typename T>
void check_values(DataType dtype) {
  const auto elements = filled<T>(dtype, 600, position_mod_seven);
  for (std::size_t i = 0; i < elements.size(); ++i) {
    if (elements[i] != static_cast<T>(i % kPeriod % 7)) FAIL(to_string(dtype) << " element " << i);
  }
  SUCCEED();
}

TEST_CASE("patterns_repeat_after_a_prime_in_every_plain_type") {
  check_values<float>(DataType::float32);
  check_values<double>(DataType::float64);
  check_values<std::int8_t>(DataType::int8);
  check_values<std::int16_t>(DataType::int16);
  check_values<std::int32_t>(DataType::int32);
  check_values<std::int64_t>(DataType::int64);
  check_values<std::uint8_t>(DataType::uint8);
}

std::uint16_t half_bits(DataType dtype, double value) {
  const Pattern pattern(dtype, [value](std::uint64_t) { return value; });
  std::uint16_t bits = 0;
  std::memcpy(&bits, pattern.element(0).data(), sizeof bits);
  return bits;
}

TEST_CASE("halves_have_the_bits_of_their_standards") {
  CHECK(half_bits(DataType::float16, 0) == 0x0000);
  CHECK(half_bits(DataType::float16, 1) == 0x3c00);
  CHECK(half_bits(DataType::float16, -2) == 0xc000);
  CHECK(half_bits(DataType::float16, 5.5) == 0x4580);
  CHECK(half_bits(DataType::float16, 1.0 / 3) == 0x3555);
  CHECK(half_bits(DataType::float16, 2049) == 0x6800);  // a tie, to even
  CHECK(half_bits(DataType::float16, 2051) == 0x6802);  // a tie, to even, upwards
  CHECK(half_bits(DataType::bfloat16, 1) == 0x3f80);
  CHECK(half_bits(DataType::bfloat16, 6) == 0x40c0);
  CHECK(half_bits(DataType::bfloat16, 1.0 / 3) == 0x3eab);
  CHECK(half_bits(DataType::bfloat16, 511.9) == 0x4400);  // rounding carries into the exponent
}

TEST_CASE("each_wrong_element_is_counted") {
  auto elements = filled<float>(DataType::float32, 1000, position_mod_seven);
  const Pattern wanted(DataType::float32, position_mod_seven);
  const auto wrong = [&](double ulps) { return wanted.count_wrong(std::as_bytes(std::span(elements)), ulps); };
  CHECK(wrong(0) == 0);
  elements[3] += 1;
  elements[999] = std::numeric_limits<float>::quiet_NaN();
  CHECK(wrong(0) == 2);
  CHECK(wrong(1) == 2);
  elements[500] = std::nextafter(elements[500], 100.f);
  CHECK(wrong(0) == 3);
  CHECK(wrong(1) == 2);
}

TEST_CASE("elements_that_moved_by_a_chunk_are_wrong") {
  const Pattern pattern(DataType::int32, [](std::uint64_t i) { return input_value(ReduceOp::sum, 1, i, 5); });
  std::vector<std::int32_t> elements(8192), moved(8192);
  pattern.fill(std::as_writable_bytes(std::span(elements)));
  std::copy(elements.begin() + 4096, elements.end(), moved.begin());
  std::copy(elements.begin(), elements.begin() + 4096, moved.begin() + 4096);
  CHECK(pattern.count_wrong(std::as_bytes(std::span(moved)), 0) > 4096);
}

TEST_CASE("a_missing_rank_or_an_old_call_shows_in_the_result") {
  for (const ReduceOp op : {ReduceOp::sum, ReduceOp::average, ReduceOp::min, ReduceOp::max, ReduceOp::product}) {
    int rank_shows = 0, call_shows = 0;
    for (std::uint64_t i = 0; i < kPeriod; ++i) {
      rank_shows += reduced_value(op, 4, i, 9) != reduced_value(op, 3, i, 9);
      call_shows += reduced_value(op, 4, i, 9) != reduced_value(op, 4, i, 10);
    }
    INFO(to_string(op));
    CHECK(rank_shows > 10);
    CHECK(call_shows > 10);
  }
}

TEST_CASE("results_follow_from_the_inputs") {
  const auto in = [](ReduceOp op, int rank) { return input_value(op, rank, 17, 3); };
  CHECK(reduced_value(ReduceOp::sum, 3, 17, 3) == in(ReduceOp::sum, 0) + in(ReduceOp::sum, 1) + in(ReduceOp::sum, 2));
  CHECK(reduced_value(ReduceOp::average, 2, 17, 3) == (in(ReduceOp::average, 0) + in(ReduceOp::average, 1)) / 2);
  CHECK(reduced_value(ReduceOp::product, 2, 17, 3) == in(ReduceOp::product, 0) * in(ReduceOp::product, 1));
  CHECK(reduced_value(ReduceOp::max, 2, 17, 3) == std::max(in(ReduceOp::max, 0), in(ReduceOp::max, 1)));
}

TEST_CASE("single_elements_are_judged_like_whole_buffers") {
  const float third = 1.0f / 3, near = std::nextafter(third, 1.0f), far = third + 1e-3f;
  const auto right = [](const float& value, double ulps) {
    return is_right(reinterpret_cast<const std::byte*>(&value), DataType::float32, 1.0 / 3, ulps);
  };
  CHECK(right(third, 0));
  CHECK_FALSE(right(near, 0));
  CHECK(right(near, 1));
  CHECK_FALSE(right(far, 1));
}

}  // namespace
}  // namespace hora::perf
