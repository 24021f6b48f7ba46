// Finds a tensor by its name, without making a string of it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

namespace hora::negotiation {

struct NameHash : std::hash<std::string_view> {
  using is_transparent = void;
};

// From a name to the index of its tensor. Looked up, never iterated: its order is not the same everywhere.
using NameIndex = std::unordered_map<std::string, std::uint32_t, NameHash, std::equal_to<>>;

}  // namespace hora::negotiation
