// Calls that become no operation, or whose caller goes away: refused, broken before they were made, interrupted. Ranks
// must stay agreed on what the next call is.
#include <catch2/catch.hpp>

#include "job_of_threads.h"

namespace hora {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using test::Checks;
using test::in_place;
using test::share;
using test::sum_of;

// An allgather of ten elements of each rank.
struct Gathering {
  static constexpr std::size_t kCount = 10;
  static constexpr Signature kSignature{Collective::allgather, DataType::float32, ReduceOp::sum, Rank{0}, kCount};

  explicit Gathering(int size, float value = 0) : part(kCount, value), all(kCount * static_cast<std::size_t>(size)) {}
  [[nodiscard]] Extent extent() { return {bytes(part), bytes(all), kCount * sizeof(float)}; }
  static std::byte* bytes(std::vector<float>& data) { return reinterpret_cast<std::byte*>(data.data()); }

  std::vector<float> part, all;
};

StatusCode call(engine::Engine& engine, const Signature& signature, const Extent& extent) {
  try {
    engine.run_ordered(signature, extent);
    return StatusCode::ok;
  } catch (const Error& error) {
    return error.code();
  }
}

StatusCode gather(engine::Engine& engine, int size) {
  Gathering gathering(size);
  return call(engine, Gathering::kSignature, gathering.extent());
}

TEST_CASE("an_interrupted_ordered_call_goes_on_without_its_caller") {
  struct Stop {};
  const bool throws = GENERATE(false, true);
  Checks check;
  std::atomic<bool> left{false};
  test::JobOfThreads job(2);
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    std::vector<float> first(100'000, share(rank)), second(7, share(rank));
    if (rank == 0) {
      session.interrupt_waits([&]() -> bool { return throws ? throw Stop() : true; });
      try {
        engine.run_ordered(sum_of(first.size()), in_place(first));
        check.that(false);
      } catch (const Error& error) {
        check.that(!throws && error.code() == StatusCode::timed_out);
      } catch (const Stop&) {
        check.that(throws);
      }
      // This one waits for the first, and is not begun.
      session.interrupt_waits([] { return true; });
      check.that(call(engine, sum_of(second.size()), in_place(second)) == StatusCode::try_again);
      check.that(second.front() == 1);
      session.interrupt_waits(nullptr);
      left.store(true);
      left.notify_all();
    } else {
      left.wait(false);
      engine.run_ordered(sum_of(first.size()), in_place(first));  // rank 0 waits for nothing now
      check.that(first.back() == 3);
    }
    engine.run_ordered(sum_of(second.size()), in_place(second));
    check.that(first.front() == 3 && first.back() == 3);
    check.that(second.front() == 3);
    check.that(session.leave(std::chrono::seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

// The others know of a death when they make the next call; this one learns of it from the call that it left.
TEST_CASE("a_call_after_an_interrupted_one_does_not_mean_a_view_that_has_passed") {
  Checks check;
  std::atomic<bool> left{false};
  test::JobOfThreads job(3);
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    std::vector<float> data(100, share(rank)), mine(5, share(rank));
    const Signature from_first{Collective::broadcast, DataType::float32, ReduceOp::sum, Rank{0}, mine.size()};
    if (rank == 1) {
      session.interrupt_waits([] { return true; });
      check.that(call(engine, sum_of(data.size()), in_place(data)) == StatusCode::timed_out);
      session.interrupt_waits(nullptr);
      left = true;
      left.notify_all();
      check.that(call(engine, from_first, in_place(mine)) == StatusCode::try_again);
    } else {
      left.wait(false);
      if (rank == 0) return job.drop(rank);
      check.that(call(engine, sum_of(data.size()), in_place(data)) == StatusCode::ok);
    }
    check.that(engine.view().epoch == Epoch{2} && data[0] == share(1) + share(2));
    check.that(call(engine, from_first, in_place(mine)) == StatusCode::ok && mine[0] == share(1));
    check.that(session.leave(seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("a_broken_call_counts_on_members_that_make_it_after_the_view_change_too") {
  const bool sees_the_view_before = GENERATE(false, true);
  for (int round = 0; round < 10; ++round) {
    Checks check;
    test::JobOfThreads job(3);
    std::atomic<bool> broken{false};
    job.run([&](engine::Session& session, int rank) {
      engine::Engine& engine = session.engine();
      const View& founding = engine.view();
      const auto meet = [&] {
        std::vector<float> one(1);
        engine::Work* work = engine.submit("meet", sum_of(1), {}, in_place(one), true);
        check.that(engine.wait(*work, std::chrono::seconds(20)) && work->status.ok());
        engine.release(work);
      };
      std::vector<float> data(100, share(rank));
      engine.run_ordered(sum_of(100), in_place(data));
      if (rank == 2) {
        engine.flush();  // else the others may have to do the first call again, in the view that the next one expects
        return job.drop(rank);
      }
      while (rank == 0 && !broken) std::this_thread::yield();
      if (rank == 0 && sees_the_view_before) meet();
      std::vector<float> part(10, share(rank));
      Gathering parts(3);
      try {
        engine.run_ordered(Gathering::kSignature, parts.extent(), founding);
        check.that(false);
      } catch (const Error& error) {
        check.that(error.code() == StatusCode::peer_failed);
      }
      broken = true;
      if (rank == 1 && sees_the_view_before) meet();
      const Outcome outcome = engine.run_ordered(sum_of(10), in_place(part));
      check.that(outcome.contributors == 2 && part[0] == 3.0f);
      check.that(session.leave(std::chrono::seconds(20)).ok());
    });
    REQUIRE(check.wrong == 0);
  }
}

// The second failure comes before one of them has called what the first one broke.
TEST_CASE("ranks_see_the_same_views_whenever_they_make_a_broken_call") {
  for (int round = 0; round < 5; ++round) {
    Checks check;
    test::JobOfThreads job(4);
    std::atomic<int> broken{0};
    job.run([&](engine::Session& session, int rank) {
      engine::Engine& engine = session.engine();
      std::vector<float> data(100, share(rank));
      engine.run_ordered(sum_of(100), in_place(data));
      if (rank == 3) {
        engine.flush();
        return job.drop(rank);
      }
      if (rank != 1) {
        check.that(gather(engine, 4) == StatusCode::peer_failed);
        ++broken;
      }
      while (broken < 2) std::this_thread::yield();
      if (rank == 2) return job.drop(rank);
      // Rank 2 never submits it: when it is done, the view without rank 2 stands. Nothing here has returned in it.
      std::vector<float> witness(1, share(rank));
      engine::Work* work = engine.submit("witness", sum_of(1), {}, in_place(witness), false);
      while (!work->done()) std::this_thread::yield();
      check.that(work->outcome.epoch == Epoch{3});
      if (rank == 1) check.that(gather(engine, 4) == StatusCode::peer_failed);
      check.that(engine.view().epoch == Epoch{2});
      check.that(gather(engine, engine.view().size()) == StatusCode::peer_failed);
      check.that(engine.view().epoch == Epoch{3});
      check.that(gather(engine, engine.view().size()) == StatusCode::ok);
      check.that(engine.wait(*work, seconds(20)));
      engine.release(work);
      check.that(session.leave(seconds(20)).ok());
    });
    REQUIRE(check.wrong == 0);
  }
}

// What the question of flush() waits for can end without an operation.
TEST_CASE("a_flush_is_answered_by_who_makes_a_broken_call_late") {
  Checks check;
  test::JobOfThreads job(3);
  std::atomic<bool> flushes{false};
  const auto over_sockets = [](Options& options) { options.transport = Transport::tcp; };
  const auto body = [&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    const SystemClock clock;
    std::vector<float> data(100, share(rank));
    engine.run_ordered(sum_of(100), in_place(data));
    if (rank == 2) {
      engine.flush();
      return job.drop(rank);
    }
    if (rank == 0) {
      while (!flushes) std::this_thread::yield();
      for (const TimePoint until = clock.now() + milliseconds(50); clock.now() < until;) std::this_thread::yield();
    }
    check.that(gather(engine, 3) == StatusCode::peer_failed);
    if (rank == 1) {
      flushes = true;
      check.that(engine.wait_stable(clock.now() + seconds(20)));
    }
    std::vector<float> next(10, share(rank));
    engine.run_ordered(sum_of(10), in_place(next));
    check.that(next[0] == 3.0F);
    check.that(session.leave(seconds(20)).ok());
  };
  job.run(body, over_sockets);
  REQUIRE(check.wrong == 0);
}

TEST_CASE("a_second_submission_that_is_refused_leaves_the_memory_of_the_first_alone") {
  Checks check;
  test::JobOfThreads job(2);
  std::atomic<bool> refused{false};
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    Gathering gathering(2);
    std::fill_n(gathering.all.begin(), Gathering::kCount, share(rank));  // not where the part of rank 1 belongs
    const Extent in_target{Gathering::bytes(gathering.all), Gathering::bytes(gathering.all),
                           Gathering::kCount * sizeof(float)};
    if (rank == 0) refused.wait(false);
    engine::Work* first = engine.submit("parts", Gathering::kSignature, {}, in_target, false);
    if (rank == 1) {
      std::fill_n(gathering.all.begin(), Gathering::kCount, -1.0F);
      engine::Work* again = engine.submit("parts", Gathering::kSignature, {}, in_target, false);
      check.that(engine.wait(*again, seconds(20)) && again->status.code() == StatusCode::invalid_argument);
      engine.release(again);
      refused = true;
      refused.notify_all();
    }
    check.that(engine.wait(*first, seconds(20)) && first->status.ok());
    engine.release(first);
    check.that(gathering.all.front() == 1.0F && gathering.all.back() == 2.0F);
    check.that(session.leave(seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("the_view_of_another_communicator_is_refused") {
  Checks check;
  test::JobOfThreads job(2);
  job.run([&](engine::Session& session, int) {
    View other = session.engine().view();
    other.members.pop_back();
    Gathering gathering(1);
    try {
      session.engine().run_ordered(Gathering::kSignature, gathering.extent(), other);
      check.that(false);
    } catch (const Error& error) {
      check.that(error.code() == StatusCode::invalid_argument);
    }
    check.that(session.leave(seconds(20)).ok());
  });
  REQUIRE(check.wrong == 0);
}

TEST_CASE("what_cannot_be_meant_is_refused_by_the_facade") {
  Communicator comm = Communicator::init(Options{});
  std::vector<float> weights(4), copy(4);
  const Tensor elsewhere{weights.data(), copy.data(), weights.size(), DataType::float32, {}};
  const auto code = [](const auto& submit) {
    try {
      submit();
      return StatusCode::ok;
    } catch (const Error& error) {
      return error.code();
    }
  };
  CHECK(code([&] { comm.broadcast_async("weights", elsewhere, 0); }) == StatusCode::invalid_argument);
  CHECK(code([&] { comm.broadcast_async("weights", std::span(weights), 0).wait(); }) == StatusCode::ok);
  CHECK(code([&] { comm.allreduce_async("hora:device", std::span(weights)); }) == StatusCode::invalid_argument);
  CHECK(code([&] { comm.allgather_async("hora:", elsewhere); }) == StatusCode::invalid_argument);
  comm.shutdown();
}

}  // namespace
}  // namespace hora
