#include "elastic/store/obituary.h"

#include <fmt/format.h>

#include <charconv>

namespace hora::store {

std::string member_key(std::string_view job, std::string_view token) {
  return fmt::format("hora/{}/member/{}", job, token);
}

std::string death_key(std::string_view job, std::uint64_t number) {
  return fmt::format("hora/{}/death/{}", job, number);
}

std::string encode_member(MemberId member) {
  return fmt::format("{:016x}", member.value);
}

Result<MemberId> decode_member(std::string_view text) {
  MemberId member;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), member.value, 16);
  if (error != std::errc() || end != text.data() + text.size())
    return Status(StatusCode::invalid_argument, fmt::format("'{}' is no member id", text));
  return member;
}

std::string encode(const Obituary& obituary) {
  return fmt::format("{} {}", encode_member(obituary.dead), obituary.reason);
}

Result<Obituary> decode_obituary(std::string_view text) {
  const std::size_t space = text.find(' ');
  auto dead = decode_member(text.substr(0, space));
  if (!dead.ok()) return dead.status();
  return Obituary{*dead, std::string(space == text.npos ? "" : text.substr(space + 1))};
}

}  // namespace hora::store
