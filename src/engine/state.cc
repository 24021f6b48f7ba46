#include "engine/state.h"

#include <fmt/format.h>

#include <cstring>

namespace hora::engine {

Status StateRegistry::add(std::string_view name, std::span<std::byte> memory) {
  if (sealed_)
    return {StatusCode::invalid_argument,
            fmt::format("state '{}' was registered after the first step(): newcomers would not get it", name)};
  if (memory.data() == nullptr && !memory.empty())
    return {StatusCode::invalid_argument, fmt::format("state '{}': null for {} bytes", name, memory.size())};
  if (!entries_.emplace(name, memory).second)
    return {StatusCode::invalid_argument, fmt::format("state '{}' is registered twice", name)};
  return {};
}

std::size_t StateRegistry::bytes() const noexcept {
  std::size_t sum = 0;
  for (const auto& [name, memory] : entries_) sum += memory.size();
  return sum;
}

wire::Bytes StateRegistry::description() const {
  wire::Writer out;
  out.u32(static_cast<std::uint32_t>(entries_.size()));
  for (const auto& [name, memory] : entries_) {
    out.string(name);
    out.u64(memory.size());
  }
  return out.take();
}

void StateRegistry::copy_to(std::span<std::byte> target) const {
  for (const auto& [name, memory] : entries_) {
    if (!memory.empty()) std::memcpy(target.data(), memory.data(), memory.size());
    target = target.subspan(memory.size());
  }
}

std::vector<std::span<std::byte>> StateRegistry::pieces() const {
  std::vector<std::span<std::byte>> result;
  for (const auto& [name, memory] : entries_) result.push_back(memory);
  return result;
}

Status StateRegistry::check(std::span<const std::byte> description) const {
  wire::Reader in(description);
  std::map<std::string, std::uint64_t> theirs;
  const std::uint32_t count = in.count(4 + 8);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::string name = in.string();
    theirs[std::move(name)] = in.u64();
  }
  if (!in.finished()) return {StatusCode::internal, "the description of the job's state is malformed"};
  for (const auto& [name, memory] : entries_) {
    const auto other = theirs.find(name);
    if (other == theirs.end())
      return {StatusCode::mismatch, fmt::format("state '{}' is registered here, but not by the members", name)};
    if (other->second != memory.size())
      return {StatusCode::mismatch,
              fmt::format("state '{}' has {} bytes here and {} on the members", name, memory.size(), other->second)};
    theirs.erase(other);
  }
  if (theirs.empty()) return {};
  return {StatusCode::mismatch,
          fmt::format("state '{}' is registered by the members, but not here", theirs.begin()->first)};
}

}  // namespace hora::engine
