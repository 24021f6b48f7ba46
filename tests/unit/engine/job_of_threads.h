// A job whose ranks are threads of the test, over one mapping of each segment: what a thread sanitizer can see.
#pragma once

#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/mutex.h"
#include "elastic/store/store_server.h"
#include "engine/session.h"
#include "interfaces/system_clock.h"

namespace hora::test {

// A float sum in place: what most calls of these tests are.
inline Signature sum_of(std::uint64_t count) {
  return {Collective::allreduce, DataType::float32, ReduceOp::sum, Rank{0}, count};
}
inline Extent in_place(std::vector<float>& data) {
  auto* bytes = reinterpret_cast<std::byte*>(data.data());
  return {bytes, bytes, data.size() * sizeof(float)};
}

// What rank r adds: distinct powers of two, so that a sum names its contributors.
inline float share(int rank) {
  return static_cast<float>(1 << rank);
}

// Catch2's assertions are for one thread; ranks count what they see wrong instead.
struct Checks {
  std::atomic<int> wrong{0};
  void that(bool holds, int line = __builtin_LINE()) {
    if (!holds) ++wrong, std::fprintf(stderr, "wrong at line %d\n", line);
  }
};

class SharedSegments final : public engine::SegmentSource {
 public:
  Result<std::unique_ptr<shm::Segment>> create(MemberId owner, const shm::SegmentLayout& layout) override {
    auto segment = engine::SegmentSource::create(owner, layout);
    if (segment.ok()) {
      const MutexLock lock(mutex_);
      own_[owner] = segment.value().get();
    }
    return segment;
  }
  Result<std::unique_ptr<shm::Segment>> attach(UniqueFd, MemberId owner, const shm::SegmentLayout&) override {
    const MutexLock lock(mutex_);
    return shm::Segment::attach_in_process(*own_.at(owner));
  }

 private:
  Mutex mutex_;
  std::map<MemberId, shm::Segment*> own_ GUARDED_BY(mutex_);
};

class JobOfThreads {
 public:
  explicit JobOfThreads(int size) : size_(size) {
    static int jobs = 0;
    job_ = "threads-" + std::to_string(getpid()) + "-" + std::to_string(++jobs);
    auto server = store::StoreServer::start({"unix:@" + job_, job_, "secret"}, clock_, log_);
    server_ = std::move(server).value();
  }

  Options options(int rank) const {
    Options options;
    options.rank = rank;
    options.size = size_;
    options.job = job_;
    options.secret = "secret";
    options.store = server_->address();
    return options;
  }

  // One rank, on the thread of the test. Ends with the session: without leave(), as a death.
  std::unique_ptr<engine::Session> start(const Options& options) {
    auto session = engine::Session::start(options, &segments_);
    if (!session.ok()) throw Error(session.status());
    return std::move(session).value();
  }

  // Runs `body(session, rank)` on a thread for each rank, and for each of `newcomers`, whose ranks here are size, size
  // + 1, ... They start after the founders have met. The sessions end together.
  void run(const std::function<void(engine::Session&, int rank)>& body,
           const std::function<void(Options&)>& adjust = {}, int newcomers = 0) {
    sessions_.resize(static_cast<std::size_t>(size_ + newcomers));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size_ + newcomers; ++rank) {
      threads.emplace_back([&, rank] {
        Options mine = options(rank);
        mine.join = rank >= size_;
        if (mine.join) mine.rank = 0, mine.size = 1;
        if (adjust) adjust(mine);
        auto& kept = sessions_[static_cast<std::size_t>(rank)];
        kept = start(mine);
        body(*kept, rank);
      });
    }
    for (std::thread& thread : threads) thread.join();
    sessions_.clear();
  }

  // By the body of `rank`: its session ends now, without leaving. Others still share its memory.
  void drop(int rank) { sessions_[static_cast<std::size_t>(rank)].reset(); }

 private:
  const int size_;
  SystemClock clock_;
  Log log_{LogLevel::warn, "test"};
  std::string job_;
  std::unique_ptr<store::StoreServer> server_;
  SharedSegments segments_;
  std::vector<std::unique_ptr<engine::Session>> sessions_;
};

}  // namespace hora::test
