#include "negotiation/request.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

namespace hora::negotiation {
namespace {

// Nothing where a dimension is negative or the product is not below the limit.
std::optional<std::uint64_t> elements_of(std::span<const std::int64_t> shape) {
  if (std::ranges::any_of(shape, [](std::int64_t dimension) { return dimension < 0; })) return std::nullopt;
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::uint64_t elements = 1;
  for (const std::int64_t dimension : shape) {
    if (static_cast<std::uint64_t>(dimension) > (kElementsLimit - 1) / elements) return std::nullopt;
    elements *= static_cast<std::uint64_t>(dimension);
  }
  return elements;
}

Status invalid(std::string text) {
  return {StatusCode::invalid_argument, std::move(text)};
}

}  // namespace

Request::Request(const Signature& wanted, std::span<const std::int64_t> dimensions)
    : signature(wanted), shape(dimensions.begin(), dimensions.end()) {
  if (shape.empty()) shape.push_back(static_cast<std::int64_t>(wanted.count));
}

bool Request::equals(const Signature& wanted, std::span<const std::int64_t> dimensions) const noexcept {
  if (signature != wanted) return false;
  if (dimensions.empty()) return shape.size() == 1;  // its one dimension is the count
  return std::ranges::equal(shape, dimensions);
}

Status validate(std::string_view name, const Signature& signature, std::span<const std::int64_t> shape, int size) {
  if (name.empty() || name.size() > kNameBytesMax)
    return invalid(fmt::format("a tensor's name has 1 to {} bytes, not {}", kNameBytesMax, name.size()));
  if (static_cast<int>(signature.kind) >= kCollectiveCount || static_cast<int>(signature.dtype) >= kDataTypeCount ||
      static_cast<int>(signature.op) >= kReduceOpCount)
    return invalid(fmt::format("tensor '{}': unknown collective, dtype or op", name));
  if (signature.root.value < 0 || signature.root.value >= size)
    return invalid(fmt::format("tensor '{}': root {} is not one of {} ranks", name, signature.root.value, size));
  if (signature.count >= kElementsLimit)
    return invalid(fmt::format("tensor '{}': {} elements are too many", name, signature.count));
  if (shape.size() > kDimensionsMax)
    return invalid(fmt::format("tensor '{}': {} dimensions are too many", name, shape.size()));
  if (!shape.empty() && elements_of(shape) != signature.count)
    return invalid(
        fmt::format("tensor '{}': shape [{}] does not hold {} elements", name, fmt::join(shape, ","), signature.count));
  return {};
}

std::string to_string(const Request& request) {
  const Signature& signature = request.signature;
  if (signature.kind == Collective::barrier) return "barrier";
  std::string text = to_string(signature.kind);
  if (signature.kind == Collective::allreduce) text += fmt::format(" {}", to_string(signature.op));
  if (signature.kind == Collective::broadcast) text += fmt::format(" from rank {}", signature.root.value);
  return text + fmt::format(" {} [{}]", to_string(signature.dtype), fmt::join(request.shape, ","));
}

}  // namespace hora::negotiation
