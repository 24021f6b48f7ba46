#include "workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/random.h"
#include "elements.h"

namespace hora::conformance {
namespace {

constexpr std::size_t kGuardBytes = 64;
constexpr auto kGuard = std::byte{0xa5};

std::uint64_t bytes_of(const Workload& workload) {
  return workload.signature.count * size_of(workload.signature.dtype);
}

// Small enough that no sum or product of eight overflows or rounds away, but for floats of full precision, whose sums
// are rounded.
Integer integer_input(ReduceOp op, DataType type, Random& random) {
  const bool is_signed = type != DataType::uint8;
  if (op == ReduceOp::product) return 1 - (is_signed && random.chance(1, 3) ? 2 : 0);
  if (op == ReduceOp::sum) return static_cast<Integer>(random.below(16)) - (is_signed ? 8 : 0);
  return static_cast<std::int64_t>(random.next());
}

double floating_input(DataType type, Random& random) {
  const double sign = random.chance(1, 2) ? -1 : 1;
  if (size_of(type) == 2) return sign * static_cast<double>(64 + random.below(128) / 2 * 2) / 64;  // 7 bits of mantissa
  return sign * (1 + static_cast<double>(random.below(1 << 22)) / (1 << 22));
}

template <typename T>
T reduce(ReduceOp op, T left, T right) {
  switch (op) {
    case ReduceOp::sum:
    case ReduceOp::average: return left + right;
    case ReduceOp::product: return left * right;
    case ReduceOp::min: return std::min(left, right);
    case ReduceOp::max: return std::max(left, right);
  }
  return left;
}

std::string wrong(const Workload& workload, std::uint64_t index, double expected, double found) {
  return fmt::format("{}: element {} is {}, not {}", describe(workload), index, found, expected);
}

std::string check_integers(const Workload& workload, const std::vector<std::vector<std::byte>>& inputs,
                           const std::vector<std::byte>& result) {
  const auto [kind, dtype, op, root, count] = workload.signature;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t at = i * size_of(dtype);
    Integer expected = load_integer(dtype, inputs[0].data() + at);
    for (std::size_t rank = 1; rank < inputs.size(); ++rank)
      expected = reduce(op, expected, load_integer(dtype, inputs[rank].data() + at));
    const Integer found = load_integer(dtype, result.data() + at);
    if (found != expected) return wrong(workload, i, static_cast<double>(expected), static_cast<double>(found));
  }
  return {};
}

std::string check_floats(const Workload& workload, const std::vector<std::vector<std::byte>>& inputs,
                         const std::vector<std::byte>& result) {
  const auto [kind, dtype, op, root, count] = workload.signature;
  const auto ranks = static_cast<double>(inputs.size());
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t at = i * size_of(dtype);
    double expected = load_floating(dtype, inputs[0].data() + at);
    double magnitude = std::abs(expected);  // the largest partial result in any order
    for (std::size_t rank = 1; rank < inputs.size(); ++rank) {
      const double input = load_floating(dtype, inputs[rank].data() + at);
      expected = reduce(op, expected, input);
      magnitude = op == ReduceOp::product ? magnitude * std::max(1.0, std::abs(input)) : magnitude + std::abs(input);
    }
    if (op == ReduceOp::average) expected /= ranks, magnitude /= ranks;
    const bool exact = op == ReduceOp::min || op == ReduceOp::max;
    // One rounding for each partial result, half an epsilon of it at most, and one for the division.
    const double tolerance = exact ? 0 : ranks * epsilon(dtype) * magnitude;
    const double found = load_floating(dtype, result.data() + at);
    if (!(std::abs(found - expected) <= tolerance)) return wrong(workload, i, expected, found);
  }
  return {};
}

}  // namespace

std::string describe(const Workload& workload) {
  const auto& [kind, dtype, op, root, count] = workload.signature;
  return fmt::format("{} of {} {} ({}), root {}{}{}", to_string(kind), count, to_string(dtype), to_string(op),
                     root.value, workload.in_place ? ", in place" : "", workload.fused ? ", fused" : "");
}

Tensors::Block Tensors::make_block(std::size_t bytes) const {
  Block block;
  // An element beside the alignment of the allocator: the least that a caller's tensor has.
  block.offset = kGuardBytes + size_of(workload_.signature.dtype);
  block.bytes = bytes;
  block.memory.assign(block.offset + bytes + kGuardBytes, kGuard);
  return block;
}

Tensors::Tensors(const Workload& workload, int rank, int size) : workload_(workload), rank_(rank), size_(size) {
  const Signature& signature = workload_.signature;
  const std::size_t element = size_of(signature.dtype);
  const std::uint64_t first = signature.count / 3;
  if (workload_.fused) {
    tensor_bytes_ = {first * element, 0, (signature.count - first) * element};
  } else {
    tensor_bytes_ = {signature.count * element};
  }
  const std::vector<std::byte> input = input_of(workload_, rank);
  const std::size_t parts = signature.kind == Collective::allgather ? static_cast<std::size_t>(size) : 1;
  std::size_t offset = 0;
  for (const std::size_t bytes : tensor_bytes_) {
    sources_.push_back(make_block(workload_.in_place ? 0 : bytes));
    targets_.push_back(make_block(parts * bytes));
    std::copy_n(input.data() + offset, bytes, source_of(targets_.size() - 1));
    offset += bytes;
  }
  for (std::size_t i = 0; i < tensor_bytes_.size(); ++i) {
    extents_.push_back({source_of(i), targets_[i].data(), tensor_bytes_[i]});
  }
  for (std::vector<Block>* blocks : {&sources_, &targets_})
    for (Block& block : *blocks) block.before = block.memory;
}

std::byte* Tensors::source_of(std::size_t tensor) {
  if (!workload_.in_place) return sources_[tensor].data();
  const bool gathers = workload_.signature.kind == Collective::allgather;
  return targets_[tensor].data() + (gathers ? static_cast<std::size_t>(rank_) * tensor_bytes_[tensor] : 0);
}

std::vector<std::byte> Tensors::result() const {
  const Signature& signature = workload_.signature;
  const bool is_root = signature.kind == Collective::broadcast && signature.root.value == rank_;
  const int parts = signature.kind == Collective::allgather ? size_ : 1;
  std::vector<std::byte> bytes;
  for (int part = 0; part < parts; ++part)
    for (std::size_t i = 0; i < tensor_bytes_.size(); ++i) {
      const std::byte* tensor = is_root ? extents_[i].source : extents_[i].target;
      tensor += static_cast<std::size_t>(part) * tensor_bytes_[i];
      bytes.insert(bytes.end(), tensor, tensor + tensor_bytes_[i]);
    }
  return bytes;
}

bool Tensors::intact_around() const {
  const auto same = [](const Block& block, std::size_t from, std::size_t to) {
    return std::equal(block.memory.data() + from, block.memory.data() + to, block.before.data() + from);
  };
  return std::ranges::all_of(targets_,
                             [&](const Block& block) {
                               return same(block, 0, block.offset) &&
                                      same(block, block.offset + block.bytes, block.memory.size());
                             }) &&
         std::ranges::all_of(sources_, [](const Block& block) { return block.memory == block.before; });
}

bool Tensors::untouched() const {
  return intact_around() &&
         std::ranges::all_of(targets_, [](const Block& block) { return block.memory == block.before; });
}

std::vector<std::byte> input_of(const Workload& workload, int rank) {
  const auto [kind, dtype, op, root, count] = workload.signature;
  std::vector<std::byte> input(bytes_of(workload));
  Random random(workload.seed * 1000 + static_cast<std::uint64_t>(rank));
  for (std::uint64_t i = 0; i < count; ++i) {
    std::byte* at = input.data() + i * size_of(dtype);
    if (is_floating(dtype)) {
      store_floating(dtype, at, floating_input(dtype, random));
    } else {
      store_integer(dtype, at, integer_input(op, dtype, random));
    }
  }
  return input;
}

std::string check_result(const Workload& workload, int size, const std::vector<std::byte>& result) {
  std::vector<std::vector<std::byte>> inputs;
  for (int rank = 0; rank < size; ++rank) inputs.push_back(input_of(workload, rank));
  std::vector<std::byte> expected;
  switch (workload.signature.kind) {
    case Collective::barrier: return {};
    case Collective::allreduce:
      return is_floating(workload.signature.dtype) ? check_floats(workload, inputs, result)
                                                   : check_integers(workload, inputs, result);
    case Collective::broadcast: expected = inputs[static_cast<std::size_t>(workload.signature.root.value)]; break;
    case Collective::allgather:
      for (const auto& input : inputs) expected.insert(expected.end(), input.begin(), input.end());
  }
  return result == expected ? "" : describe(workload) + ": wrong bytes";
}

}  // namespace hora::conformance
