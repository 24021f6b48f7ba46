// The engine over shared memory, with ranks as threads: both fronts, and members that leave.
#include <catch2/catch.hpp>
#include <future>
#include <numeric>

#include "job_of_threads.h"

namespace hora {
namespace {

using test::Checks;
using test::in_place;
using test::share;
using test::sum_of;

TEST_CASE("ordered_allreduce_of_all_sizes") {
  const int size = GENERATE(1, 2, 3, 4);
  Checks check;
  test::JobOfThreads job(size);
  job.run([&](engine::Session& session, int rank) {
    for (const std::size_t count : {0, 1, 7, 100, 5000, 300'000}) {
      std::vector<float> data(count, share(rank));
      const Outcome outcome = session.engine().run_ordered(sum_of(count), in_place(data));
      check.that(outcome.contributors == size);
      check.that(std::all_of(data.begin(), data.end(), [&](float x) { return x == share(size) - 1; }));
    }
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

// Keeps the rank whose named work ends from doing anything else.
class Gate final : public engine::Recorder {
 public:
  void open() {
    open_.store(true);
    open_.notify_all();
  }
  void ordered(const Status&, const Outcome&, const Signature&, const Extent&) noexcept override {}
  void named(std::string_view, const Status&, const Outcome&, const Signature&, const Extent&) noexcept override {
    open_.wait(false);
  }

 private:
  std::atomic<bool> open_{false};
};

TEST_CASE("a_flush_keeps_its_deadline_while_another_one_waits") {
  Checks check;
  Gate gate;
  test::JobOfThreads job(2);
  const auto over_sockets = [](Options& options) { options.transport = Transport::tcp; };
  const auto body = [&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    if (rank == 1) engine.record_to(&gate);
    std::vector<float> data(7, share(rank));
    engine::Work* work = engine.submit("x", sum_of(data.size()), {}, in_place(data), false);
    check.that(engine.wait(*work, std::chrono::seconds(60)) && data[0] == 3);
    if (rank == 0) {
      std::thread unlimited([&] { engine.flush(); });
      const auto often = [&] {
        for (int i = 0; i < 20; ++i)
          check.that(!engine.wait_stable(SystemClock().now() + std::chrono::milliseconds(5)));
      };
      auto limited = std::async(std::launch::async, often);
      check.that(limited.wait_for(std::chrono::seconds(10)) == std::future_status::ready);
      gate.open();
      unlimited.join();
    }
    engine.release(work);
    engine.record_to(nullptr);
    check.that(session.leave(std::chrono::seconds(20)).ok());
  };
  job.run(body, over_sockets);
  REQUIRE(check.wrong == 0);
}

TEST_CASE("named_tensors_in_any_order_meet") {
  constexpr int kSize = 3, kTensors = 20, kRounds = 10;
  Checks check;
  test::JobOfThreads job(kSize);
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    for (int round = 0; round < kRounds; ++round) {
      std::vector<std::vector<float>> data(kTensors);
      std::vector<engine::Work*> works(kTensors);
      for (int i = 0; i < kTensors; ++i) {
        const int t = (i * 7 + rank * 5 + round) % kTensors;  // another order on each rank
        auto& mine = data[static_cast<std::size_t>(t)];
        mine.assign(static_cast<std::size_t>(t * 100 + 1), share(rank) * static_cast<float>(t));
        works[static_cast<std::size_t>(t)] =
            engine.submit("tensor" + std::to_string(t), sum_of(mine.size()), {}, in_place(mine), false);
      }
      for (int t = 0; t < kTensors; ++t) {
        engine::Work* work = works[static_cast<std::size_t>(t)];
        check.that(engine.wait(*work, std::chrono::seconds(20)));
        check.that(work->status.ok());
        engine.release(work);
        const auto& mine = data[static_cast<std::size_t>(t)];
        check.that(std::all_of(mine.begin(), mine.end(), [&](float x) { return x == (share(kSize) - 1) * t; }));
      }
    }
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("who_waits_does_not_keep_another_thread_from_calling") {
  Checks check;
  test::JobOfThreads job(2);
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    std::vector<float> named(10, share(rank)), ordered(10, share(rank));
    std::thread waits;
    if (rank == 0) {
      engine::Work* work = engine.submit("late", sum_of(10), {}, in_place(named), true);
      waits = std::thread([&check, &engine, work] {
        check.that(engine.wait(*work, std::nullopt));
        engine.release(work);
      });
    }
    for (int i = 0; i < 3; ++i) {
      std::fill(ordered.begin(), ordered.end(), share(rank));
      engine.run_ordered(sum_of(10), in_place(ordered));
      check.that(ordered[0] == 3.0f);
      engine.flush();
    }
    if (rank == 1) {
      engine::Work* work = engine.submit("late", sum_of(10), {}, in_place(named), true);
      check.that(engine.wait(*work, std::chrono::seconds(20)));
      engine.release(work);
    } else {
      waits.join();
    }
    check.that(named[0] == 3.0f);
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("ranks_that_disagree_all_get_the_same_error") {
  Checks check;
  test::JobOfThreads job(2);
  job.run([&](engine::Session& session, int rank) {
    std::vector<float> data(rank == 0 ? 10 : 20, 1.0f);
    try {
      session.engine().run_ordered(sum_of(data.size()), in_place(data));
      check.that(false);
    } catch (const Error& error) {
      check.that(error.code() == StatusCode::mismatch);
    }
    std::vector<float> next(10, share(rank));
    session.engine().run_ordered(sum_of(10), in_place(next));
    check.that(next[0] == 3.0f);
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("a_disagreement_about_a_name_is_told_to_all_though_others_leave_at_once") {
  constexpr int kSize = 3;
  for (int round = 0; round < 20; ++round) {
    Checks check;
    test::JobOfThreads job(kSize);
    job.run([&](engine::Session& session, int rank) {
      engine::Engine& engine = session.engine();
      std::vector<float> data(static_cast<std::size_t>(rank) + 1);
      engine::Work* work = engine.submit("odd", sum_of(data.size()), {}, in_place(data), true);
      check.that(engine.wait(*work, std::chrono::seconds(20)));
      check.that(work->status.code() == StatusCode::mismatch);
      engine.release(work);
      check.that(session.leave(std::chrono::seconds(20)).ok());
    });
    REQUIRE(check.wrong == 0);
  }
}

TEST_CASE("the_others_go_on_when_one_leaves") {
  Checks check;
  test::JobOfThreads job(3);
  job.run([&](engine::Session& session, int rank) {
    std::vector<float> data(100, share(rank));
    session.engine().run_ordered(sum_of(100), in_place(data));
    check.that(data[0] == 7.0f);
    if (rank == 1) return check.that(session.leave(std::chrono::seconds(20)).ok());
    std::vector<float> next(100, share(rank));
    const Outcome outcome = session.engine().run_ordered(sum_of(100), in_place(next));
    check.that(outcome.contributors == 2 && outcome.epoch.value == 2);
    check.that(next[0] == 5.0f);
    check.that(session.engine().view().size() == 2);
    check.that(session.engine().rank().value == (rank == 0 ? 0 : 1));
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("a_session_that_ends_without_leaving_is_a_death_that_others_see_at_once") {
  const int size = GENERATE(2, 3);
  Checks check;
  test::JobOfThreads job(size);
  job.run([&](engine::Session& session, int rank) {
    std::vector<float> data(100, share(rank));
    session.engine().run_ordered(sum_of(100), in_place(data));
    if (rank == size - 1) return job.drop(rank);
    std::vector<float> next(100, share(rank));
    const Outcome outcome = session.engine().run_ordered(sum_of(100), in_place(next));
    check.that(outcome.contributors == size - 1 && outcome.epoch.value == 2);
    check.that(next[0] == share(size - 1) - 1);
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("a_wait_with_a_timeout_leaves_the_operation_as_it_is") {
  Checks check;
  test::JobOfThreads job(2);
  std::atomic<bool> timed_out{false};
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    std::vector<float> data(10, share(rank));
    if (rank == 1) {
      while (!timed_out) std::this_thread::yield();
    }
    engine::Work* work = engine.submit("late", sum_of(10), {}, in_place(data), false);
    if (rank == 0) {
      check.that(!engine.wait(*work, std::chrono::milliseconds(20)));
      timed_out = true;
    }
    check.that(engine.wait(*work, std::chrono::seconds(20)));
    check.that(data[0] == 3.0f);
    engine.release(work);
    engine.flush();
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

}  // namespace
}  // namespace hora
