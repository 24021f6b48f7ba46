// What is still asked of an engine that was fenced, and of the members that a view no longer has enough of.
#include <catch2/catch.hpp>

#include "job_of_threads.h"

namespace hora {
namespace {

using test::in_place;
using test::sum_of;

struct Ended final : Errand {
  void ended(const Ending& ending) override { code = ending.status.code(); }
  std::atomic<StatusCode> code{StatusCode::ok};
};

TEST_CASE("a_freeze_after_the_fence_keeps_nobody_waiting") {
  test::JobOfThreads job(1);
  job.run([&](engine::Session& session, int) {
    engine::Engine& engine = session.engine();
    std::vector<float> data(10, 1.0F);
    Ended errand;
    engine.fence(Status(StatusCode::fenced, "by the test"));
    if (!engine.freeze().empty()) std::abort();
    engine.run("late", sum_of(data.size()), MemberId{}, in_place(data), errand);  // ends in the call, or never
    if (errand.code != StatusCode::fenced) std::abort();
  });
}

TEST_CASE("too_few_members_end_every_call_however_their_deaths_fall") {
  constexpr int kSize = 4, kStay = 2;
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> ended{0};
    test::JobOfThreads job(kSize);
    job.run(
        [&](engine::Session& session, int rank) {
          engine::Engine& engine = session.engine();
          std::vector<float> data(1000, 1.0F);
          try {
            engine.run_ordered(sum_of(data.size()), in_place(data));
            if (rank >= kStay) return job.drop(rank);
            for (;;) engine.run_ordered(sum_of(data.size()), in_place(data));
          } catch (const Error&) {
            ++ended;
          }
        },
        [](Options& options) { options.min_size = 3; });
    REQUIRE(ended == kStay);
  }
}

}  // namespace
}  // namespace hora
