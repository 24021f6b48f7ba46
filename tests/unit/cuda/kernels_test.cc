// The arithmetic of the kernels' bodies, on the host, against plain references; and what is compiled for devices.
#include <array>
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>

#include "base/random.h"
#include "conformance/elements.h"
#include "cuda/gpu.h"
#include "cuda/kernels/bodies.h"
#include "cuda/kernels/image.h"

namespace hora::cuda {
namespace {

constexpr DataType kTypes[] = {DataType::float16, DataType::bfloat16, DataType::float32,
                               DataType::float64, DataType::int8,     DataType::int16,
                               DataType::int32,   DataType::int64,    DataType::uint8};
constexpr std::uint64_t kThreads = 5;

template <typename Run>
void run_form(Form form, Run run) {
  switch (form) {
#define HORA_RUN(name, Element, Stage, divides) \
  case Form::name: return run(Element{}, Stage{}, std::bool_constant<divides>());
    HORA_FORMS(HORA_RUN)
#undef HORA_RUN
  }
}

// Pieces of uneven lengths, among them none, one element beside the alignment of the allocator.
struct Tensors {
  Tensors(DataType dtype, std::size_t count) : type(dtype), bytes(size_of(dtype)) {
    const std::array<std::size_t, 5> parts = {count / 7, 0, count / 3, 1, count - count / 7 - count / 3 - 1};
    pieces.count = parts.size();
    std::uint64_t begin = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      memory[i].resize((parts[i] + 2) * bytes, std::byte{0x5a});
      pieces.memory[i] = reinterpret_cast<std::uintptr_t>(memory[i].data() + bytes);
      pieces.begin[i] = begin;
      begin += parts[i];
    }
    pieces.begin[parts.size()] = begin;
  }
  std::byte* at(std::uint64_t element) {
    std::uint32_t piece = 0;
    while (element >= pieces.begin[piece + 1]) ++piece;
    return memory[piece].data() + (1 + element - pieces.begin[piece]) * bytes;
  }
  bool guards_intact() const {
    for (std::size_t i = 0; i < pieces.count; ++i)
      for (std::size_t b = 0; b < bytes; ++b)
        if (memory[i][b] != std::byte{0x5a} || memory[i][memory[i].size() - 1 - b] != std::byte{0x5a}) return false;
    return true;
  }
  DataType type;
  std::size_t bytes;
  std::array<std::vector<std::byte>, 5> memory;
  Pieces pieces{};
};

double value_of(DataType type, std::uint64_t i, Random& random) {
  if (type == DataType::uint8) return static_cast<double>(i % 60);
  if (!is_floating(type)) return static_cast<double>(i % 120) - 60;
  return std::ldexp(static_cast<double>(64 + random.below(64)) / 64, static_cast<int>(random.below(8)) - 4) *
         (random.chance(1, 2) ? -1 : 1);
}

void store(DataType type, std::byte* to, double value) {
  if (is_floating(type))
    conformance::store_floating(type, to, value);
  else
    conformance::store_integer(type, to, static_cast<conformance::Integer>(value));
}
double load(DataType type, const std::byte* from) {
  return is_floating(type) ? conformance::load_floating(type, from)
                           : static_cast<double>(conformance::load_integer(type, from));
}

TEST_CASE("a_list_of_tensors_goes_into_the_stage_and_comes_back_divided") {
  for (const DataType type : kTypes) {
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::average}) {
      if (op == ReduceOp::average && !is_floating(type)) continue;
      INFO(to_string(type) << ", " << to_string(op));
      const std::size_t count = 1000;
      const Staging staging = staging_of({Collective::allreduce, type, op, Rank{0}, count});
      Tensors source(type, count), target(type, count);
      Random random(7);
      std::vector<double> values;
      for (std::uint64_t i = 0; i < count; ++i)
        store(type, source.at(i), values.emplace_back(value_of(type, i, random)));
      std::vector<std::byte> stage(count * staging.element_bytes);
      run_form(staging.in, [&](auto element, auto staged, auto) {
        for (std::uint64_t thread = 0; thread < kThreads; ++thread)
          copy_in<decltype(element)>(source.pieces, reinterpret_cast<decltype(staged)*>(stage.data()), thread,
                                     kThreads);
      });
      const double divisor = op == ReduceOp::average ? 4 : 1;
      run_form(staging.out, [&](auto element, auto staged, auto divides) {
        using Stage = decltype(staged);
        for (std::uint64_t thread = 0; thread < kThreads; ++thread)
          copy_out<decltype(element), Stage, decltype(divides)::value>(target.pieces,
                                                                       reinterpret_cast<const Stage*>(stage.data()),
                                                                       static_cast<Stage>(divisor), thread, kThreads);
      });
      for (std::uint64_t i = 0; i < count; ++i) REQUIRE(load(type, target.at(i)) == values[i] / divisor);
      CHECK(target.guards_intact());
      CHECK(source.guards_intact());
    }
  }
}

TEST_CASE("every_half_survives_the_stage_as_it_is") {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    const float wide = widen<float>(half);
    if ((bits & 0x7c00) == 0x7c00 && (bits & 0x3ff) != 0) {
      REQUIRE(std::isnan(wide));
      REQUIRE(std::isnan(widen<float>(narrow<Half>(wide))));
      continue;
    }
    std::byte bytes[2];
    std::memcpy(bytes, &half, 2);
    const double infinity = std::copysign(std::numeric_limits<double>::infinity(), (bits & 0x8000) != 0 ? -1 : 1);
    const double reference =
        (bits & 0x7fff) == 0x7c00 ? infinity : conformance::load_floating(DataType::float16, bytes);
    REQUIRE(static_cast<double>(wide) == reference);
    REQUIRE(narrow<Half>(wide).bits == bits);
    const BrainHalf brain{static_cast<std::uint16_t>(bits)};
    if (!std::isnan(widen<float>(brain))) REQUIRE(narrow<BrainHalf>(widen<float>(brain)).bits == bits);
  }
}

// The nearest of two neighbours that enclose the number; of equally near ones the even one.
template <typename T>
void check_rounding(float value) {
  const T rounded = narrow<T>(value);
  const double exact = value, found = widen<float>(rounded);
  if (std::isinf(found)) return;
  for (const int step : {-1, 1}) {
    const T neighbour{static_cast<std::uint16_t>(rounded.bits + step)};
    const double other = widen<float>(neighbour);
    if (std::isnan(other) || std::isinf(other) || std::signbit(other) != std::signbit(found)) continue;
    INFO(value << " became " << found);
    REQUIRE(std::abs(found - exact) <= std::abs(other - exact));
    if (std::abs(found - exact) == std::abs(other - exact)) REQUIRE(rounded.bits % 2 == 0);
  }
}

TEST_CASE("narrowing_rounds_to_nearest_even") {
  Random random(11);
  for (int i = 0; i < 200'000; ++i) {
    const auto bits = static_cast<std::uint32_t>(random.next());
    const float value = std::bit_cast<float>(bits);
    if (std::isnan(value) || std::isinf(value)) continue;
    check_rounding<BrainHalf>(value);
    // Of the range of a half, subnormals among them, and ties.
    const float small = std::ldexp(std::copysign(1.0f + static_cast<float>(bits & 0x1fff) / 0x2000, value),
                                   static_cast<int>(bits >> 13 & 0x1f) - 26);
    check_rounding<Half>(small);
  }
  CHECK(narrow<Half>(65504.0f).bits == 0x7bff);
  CHECK(narrow<Half>(65519.0f).bits == 0x7bff);
  CHECK(narrow<Half>(65520.0f).bits == 0x7c00);
  CHECK(narrow<Half>(1e30f).bits == 0x7c00);
  CHECK(narrow<Half>(-std::numeric_limits<float>::infinity()).bits == 0xfc00);
  CHECK(narrow<Half>(std::ldexp(1.0f, -25)).bits == 0);  // a tie, to even
  CHECK(narrow<Half>(std::ldexp(1.5f, -25)).bits == 1);
  CHECK(narrow<BrainHalf>(std::numeric_limits<float>::max()).bits == 0x7f80);
}

TEST_CASE("a_decision_is_made_once") {
  std::uint32_t word = 10, abort = 0;
  const Decision decision{&word, &abort, 10, 13, 11};
  CHECK(decide(decision));
  abort = 1;
  CHECK(decide(decision));  // another block, after the flag was raised
  CHECK(word == 13);
  word = 20;
  const Decision later{&word, &abort, 20, 23, 21};
  CHECK_FALSE(decide(later));
  abort = 0;
  CHECK_FALSE(decide(later));
  CHECK(word == 21);
  const Decision repaired{&word, &abort, 21, 23, 21};
  CHECK(decide(repaired));
  CHECK(word == 23);
}

TEST_CASE("the_library_carries_the_compiled_kernels") {
  if (kernel_image().empty()) {
    std::printf("SKIPPED: no nvcc here, so there is no device code to look at\n");
    return;
  }
  const std::span image = kernel_image();
  const std::string text(reinterpret_cast<const char*>(image.data()), image.size());
  CHECK(text.size() > 10'000);
  constexpr std::uint32_t kFatBinaryMagic = 0xba55ed50;
  std::uint32_t magic = 0;
  std::memcpy(&magic, image.data(), sizeof magic);
  CHECK(magic == kFatBinaryMagic);
}

}  // namespace
}  // namespace hora::cuda
