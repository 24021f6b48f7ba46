// What is still asked of an engine that was fenced, of the members that a view no longer has enough of, and of those
// that live but pass each other no data.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

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
    if (!engine.report().empty()) std::abort();
    engine.run("late", sum_of(data.size()), MemberId{}, in_place(data), errand);  // ends in the call, or never
    if (errand.code != StatusCode::fenced) std::abort();
  });
}

// Of the whole process: the first socket that is kept alive as data connections are.
bool break_a_data_link() {
  constexpr int kFilesMost = 1024, kProbes = 6;
  for (int fd = 0; fd < kFilesMost; ++fd) {
    int probes = 0;
    socklen_t bytes = sizeof(probes);
    if (::getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, &bytes) == 0 && probes == kProbes)
      return ::shutdown(fd, SHUT_RDWR) == 0;
  }
  return false;
}

TEST_CASE("of_two_members_that_live_and_pass_each_other_no_data_one_stays") {
  constexpr int kSize = 3;
  std::atomic<int> stayed{0}, fenced{0};
  test::JobOfThreads job(kSize);
  job.run(
      [&](engine::Session& session, int rank) {
        std::vector<float> data(1000, 1.0F);
        try {
          session.engine().run_ordered(sum_of(data.size()), in_place(data));
          if (rank == 0 && !break_a_data_link()) std::abort();
          while (session.engine().run_ordered(sum_of(data.size()), in_place(data)).contributors == kSize) {
          }
          ++stayed;
        } catch (const Error& error) {
          if (error.status().code() == StatusCode::fenced) ++fenced;
        }
      },
      [](Options& options) { options.transport = Transport::tcp; });
  CHECK(stayed == kSize - 1);
  CHECK(fenced == 1);
}

TEST_CASE("who_was_fenced_has_not_departed") {
  constexpr int kSize = 3;
  std::atomic<int> refused{0};
  test::JobOfThreads job(kSize);
  job.run(
      [&](engine::Session& session, int rank) {
        std::vector<float> data(10, 1.0F);
        session.engine().run_ordered(sum_of(data.size()), in_place(data));
        if (rank == kSize - 1) return job.drop(rank);
        try {
          session.engine().run_ordered(sum_of(data.size()), in_place(data));
        } catch (const Error&) {
        }
        if (session.leave(std::chrono::seconds(20)).code() == StatusCode::peer_failed) ++refused;
      },
      [](Options& options) { options.min_size = kSize; });
  CHECK(refused == kSize - 1);
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
