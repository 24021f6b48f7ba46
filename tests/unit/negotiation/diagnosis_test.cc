#include "negotiation/diagnosis.h"

#include <catch2/catch.hpp>

namespace hora::negotiation {
namespace {

Request sum_of(std::uint64_t count) {
  return Request({Collective::allreduce, DataType::float32, ReduceOp::sum, Rank{0}, count}, {});
}

TEST_CASE("a_reason_is_short_however_long_the_name_and_many_the_ranks") {
  std::vector<Request> all;
  std::vector<const Request*> requests;
  std::vector<Rank> ranks;
  for (std::int32_t rank = 0; rank < 1000; ++rank) {
    all.push_back(sum_of(static_cast<std::uint64_t>(rank)));
    ranks.push_back(Rank{rank});
  }
  for (const Request& request : all) requests.push_back(&request);
  const std::string name(kNameBytesMax, 'n');
  CHECK(describe_mismatch(name, requests).size() <= 1024);
  CHECK(describe_mismatch("w", requests).starts_with("tensor 'w': ranks disagree: rank 0 allreduce sum float32 [0];"));
  const std::string wait = describe_wait(name, all[3], ranks, std::span(ranks).first(2), std::chrono::seconds(3));
  CHECK(wait.size() <= 1024);
  CHECK(wait.ends_with("31 and 968 more, not by ranks 0, 1, for 3.0 s"));
}

}  // namespace
}  // namespace hora::negotiation
