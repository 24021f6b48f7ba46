// Newcomers that enter a running job, with ranks as threads.
#include <catch2/catch.hpp>
#include <numeric>

#include "engine/observer.h"
#include "job_of_threads.h"

namespace hora {
namespace {

using engine::Session;
using std::chrono::seconds;

constexpr std::size_t kWeights = 3000;
constexpr std::size_t kManyWeights = 1 << 18;
constexpr int kStepsWhole = 40;  // that the job goes on once all have entered

// A training in miniature: the state is a function of all results so far, so it differs where one was missed.
struct Training {
  explicit Training(std::size_t count = kWeights) : weights(count, 1.0F) {}

  std::vector<float> weights;
  struct Progress {
    std::uint64_t steps = 0;
    std::uint64_t whole = 0;  // of those in which all were there
  } progress;

  void register_in(Session& session) {
    REQUIRE(session.state().add("weights", std::as_writable_bytes(std::span(weights))).ok());
    REQUIRE(session.state().add("progress", std::as_writable_bytes(std::span(&progress, 1))).ok());
  }

  static Signature sum_of(std::uint64_t count) {
    return {Collective::allreduce, DataType::float32, ReduceOp::average, Rank{0}, count};
  }

  void one_step(Session& session) {
    engine::Front& front = session.front();
    const auto bytes_of = [](std::vector<float>& data) {
      auto* bytes = reinterpret_cast<std::byte*>(data.data());
      return Extent{bytes, bytes, data.size() * sizeof(float)};
    };
    std::vector<float> gradient(weights.size()), named(17);
    for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = weights[i] * 0.5F + static_cast<float>(i % 7);
    named.assign(named.size(), static_cast<float>(progress.steps));
    engine::Work* work = front.submit("named", sum_of(named.size()), {}, bytes_of(named), false);
    front.run_ordered(sum_of(gradient.size()), bytes_of(gradient));
    if (!front.wait(*work, seconds(30)) || !work->status.ok()) throw Error(work->status);
    front.release(work);
    for (std::size_t i = 0; i < weights.size(); ++i)
      weights[i] -= 0.01F * gradient[i] + named[i % named.size()] * 1e-6F;
    ++progress.steps;
  }

  void run(Session& session, int whole_size) {
    register_in(session);
    session.step();
    while (progress.whole < kStepsWhole) {
      one_step(session);
      if (session.front().view().size() == whole_size) ++progress.whole;
      session.step();
    }
  }
};

struct Outcomes {
  std::mutex mutex;
  std::vector<std::vector<float>> weights;
  std::vector<std::uint64_t> steps;
  void add(const Training& training) {
    const std::lock_guard lock(mutex);
    weights.push_back(training.weights);
    steps.push_back(training.progress.steps);
  }
  void check(std::size_t count) {
    REQUIRE(weights.size() == count);
    for (std::size_t i = 1; i < count; ++i) {
      CHECK(weights[i] == weights[0]);
      CHECK(steps[i] == steps[0]);
    }
  }
};

TEST_CASE("a_newcomer_receives_the_state_and_enters_at_a_step_boundary") {
  constexpr int kFounders = 3;
  Outcomes outcomes;
  test::JobOfThreads job(kFounders);
  const auto body = [&](Session& session, int) {
    Training training;
    training.run(session, kFounders + 1);
    outcomes.add(training);
    if (!session.leave(seconds(20)).ok()) std::abort();
  };
  job.run(body, {}, 1);
  outcomes.check(kFounders + 1);
}

TEST_CASE("several_newcomers_enter_one_after_the_other") {
  constexpr int kFounders = 2, kNewcomers = 3;
  Outcomes outcomes;
  test::JobOfThreads job(kFounders);
  const auto body = [&](Session& session, int) {
    Training training;
    training.run(session, kFounders + kNewcomers);
    outcomes.add(training);
    if (!session.leave(seconds(20)).ok()) std::abort();
  };
  job.run(body, {}, kNewcomers);
  outcomes.check(kFounders + kNewcomers);
}

TEST_CASE("a_newcomer_that_enters_at_the_last_boundary_gets_all_that_it_lacks_before_its_donor_leaves") {
  constexpr int kFounders = 2;
  Outcomes outcomes;
  std::atomic<bool> entered{false};
  test::JobOfThreads job(kFounders);
  const auto body = [&](Session& session, int rank) {
    Training training(kManyWeights);
    training.register_in(session);
    session.step();
    // It has the state, and falls behind until the members take it in nevertheless.
    if (rank >= kFounders) {
      const auto deadline = std::chrono::steady_clock::now() + seconds(60);
      while (!entered && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
    }
    do {
      training.one_step(session);
      session.step();
    } while (session.observing() || session.front().view().size() <= kFounders);
    entered = true;
    outcomes.add(training);
    if (!session.leave(seconds(20)).ok()) std::abort();
  };
  job.run(body, {}, 1);
  outcomes.check(kFounders + 1);
}

TEST_CASE("a_newcomer_with_other_state_is_told_what_differs") {
  constexpr int kFounders = 2;
  std::atomic<bool> refused{false};
  test::JobOfThreads job(kFounders);
  job.run(
      [&](Session& session, int rank) {
        Training training;
        training.register_in(session);
        if (rank >= kFounders) {
          std::byte more;
          REQUIRE(session.state().add("more", {&more, 1}).ok());
          try {
            session.step();
          } catch (const Error& error) {
            refused = error.code() == StatusCode::mismatch &&
                      std::string(error.what()).find("'more' is registered here") != std::string::npos;
          }
          return;
        }
        while (!refused) {
          session.step();
          training.one_step(session);
          // All founders end at the same step: the flag goes through a reduction.
          std::byte stop{static_cast<std::uint8_t>(refused ? 1 : 0)};
          session.front().run_ordered({Collective::allreduce, DataType::uint8, ReduceOp::max, Rank{0}, 1},
                                      Extent{&stop, &stop, 1});
          if (stop != std::byte{0}) break;
        }
        if (!session.leave(seconds(20)).ok()) std::abort();
      },
      {}, 1);
  CHECK(refused);
}

TEST_CASE("step_with_a_pending_handle_is_refused") {
  test::JobOfThreads job(1);
  bool refused = false;
  job.run([&](Session& session, int) {
    engine::Front& front = session.front();
    session.step();
    float value = 1;
    auto* bytes = reinterpret_cast<std::byte*>(&value);
    engine::Work* work = front.submit("x", Training::sum_of(1), {}, {bytes, bytes, 4}, false);
    if (!work->done()) {
      try {
        session.step();
      } catch (const Error& error) {
        refused = error.code() == StatusCode::invalid_argument;
      }
    } else {
      refused = true;  // it was faster
    }
    front.wait(*work, seconds(10));
    front.release(work);
    if (!session.leave(seconds(20)).ok()) std::abort();
  });
  CHECK(refused);
}

}  // namespace
}  // namespace hora
