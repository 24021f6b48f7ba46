// What the verdict about a view carries of rejections: it goes into every member's last record.
#include <catch2/catch.hpp>

#include "job_of_threads.h"

namespace hora {
namespace {

// The reports of two ranks, and how many rejections both have heard.
struct Reports {
  View view;
  std::map<MemberId, wire::Bytes> of;
};

Reports reports_after_rejections(int size, int rejections) {
  Mutex mutex;
  Reports reports;
  test::JobOfThreads job(size);
  job.run([&](engine::Session& session, int rank) {
    engine::Engine& engine = session.engine();
    std::vector<float> data(static_cast<std::size_t>(rank) + 1);
    auto* bytes = reinterpret_cast<std::byte*>(data.data());
    const Signature odd{Collective::allreduce, DataType::float32, ReduceOp::sum, Rank{0}, data.size()};
    for (int i = 0; i < rejections; ++i) {
      engine::Work* work =
          engine.submit("tensor" + std::to_string(i), odd, {}, {bytes, bytes, data.size() * sizeof(float)}, false);
      if (!engine.wait(*work, std::chrono::seconds(20)) || work->status.code() != StatusCode::mismatch) std::abort();
      engine.release(work);
    }
    const View view = engine.view();
    const MutexLock lock(mutex);
    reports.view = view;
    reports.of[view.members[static_cast<std::size_t>(rank)].id] = engine.report();
    engine.fence(Status(StatusCode::shut_down, "the test has what it wanted"));
  });
  return reports;
}

TEST_CASE("a_rejection_is_in_the_verdict_unless_all_have_heard_it") {
  constexpr int kRejections = 200;
  Reports reports = reports_after_rejections(2, kRejections);
  REQUIRE(reports.of.size() == 2);
  View next = reports.view;
  ++next.epoch.value;
  CHECK(engine::Engine::decide(reports.view, next, reports.of).size() < kRejections);
  reports.of[next.members[1].id] = reports_after_rejections(1, 0).of.begin()->second;  // has heard nothing
  CHECK(engine::Engine::decide(reports.view, next, reports.of).size() > kRejections * std::size_t{60});
}

}  // namespace
}  // namespace hora
