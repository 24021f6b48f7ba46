// What a donor does for a newcomer that follows it, seen from the newcomer's end of the stream.
#include "engine/donor.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "base/log.h"
#include "interfaces/system_clock.h"

namespace hora::engine {
namespace {

using std::chrono_literals::operator""s;

constexpr MemberId kDonor{1}, kNewcomer{2};
const Signature kSum{Collective::allreduce, DataType::uint8, ReduceOp::sum, Rank{0}, 8};

// A donor whose newcomer follows it.
struct Followed {
  Followed() {
    int ends[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
    newcomer.reset(ends[0]);
    donor.start(kNewcomer, UniqueFd(ends[1]));
    const TimePoint deadline = clock.now() + 10s;
    while (!donor.cross(++step, view, false)) {  // its thread gets memory meanwhile
      REQUIRE(clock.now() < deadline);
      std::this_thread::yield();
    }
  }

  // Whether the stream ends within 10 s; what comes before is dropped.
  bool ends() {
    std::array<std::byte, 4096> buffer;
    pollfd polled{newcomer.get(), POLLIN, 0};
    while (::poll(&polled, 1, 10'000) == 1)
      if (::recv(newcomer.get(), buffer.data(), buffer.size(), 0) == 0) return true;
    return false;
  }

  SystemClock clock;
  Log log{LogLevel::error, "test"};
  StateRegistry state;
  View view{Epoch{1}, {Member{kDonor, 1, ""}}, Decider::members, {}};
  std::uint64_t step = 0;
  UniqueFd newcomer;
  Donor donor{state, std::uint64_t{1} << 60, log};
};

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which end the process instead of throwing
TEST_CASE("a_result_that_no_memory_can_hold_costs_the_newcomer_and_not_the_caller") {
  Followed job;
  std::byte byte{};
  const Extent more_than_there_is{&byte, &byte, std::uint64_t{1} << 47};
  job.donor.named("tensor", {}, {Epoch{1}, 1}, kSum, more_than_there_is);
  job.donor.ordered({}, {Epoch{1}, 1}, kSum, more_than_there_is);
  CHECK(job.ends());
}
#endif

TEST_CASE("a_donor_that_stops_ends_the_streams") {
  Followed job;
  job.donor.stop();
  CHECK(job.ends());
}

}  // namespace
}  // namespace hora::engine
