// What a launcher writes into its job's store when it reaps a process: who died, and of what. The witness that reaches
// hosts to which the death itself is invisible.
//
// Keys: hora/JOB/member/TOKEN, written by each process at its start: its member id in hexadecimal, under the token that
// its launcher gave it. hora/JOB/death/K, K = 1, 2, ..., written by the launcher: "ID REASON".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "hora/status.hpp"
#include "hora/types.hpp"

namespace hora::store {

struct Obituary {
  MemberId dead;
  std::string reason;  // "was killed by SIGKILL"
  friend bool operator==(const Obituary&, const Obituary&) = default;
};

std::string member_key(std::string_view job, std::string_view token);
std::string death_key(std::string_view job, std::uint64_t number);
// A member id as member_key() holds it.
std::string encode_member(MemberId member);
Result<MemberId> decode_member(std::string_view text);
std::string encode(const Obituary& obituary);
// StatusCode::invalid_argument for what is none.
Result<Obituary> decode_obituary(std::string_view text);

}  // namespace hora::store
