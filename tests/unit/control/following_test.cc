// A newcomer that follows the job: what it does when members are expelled, end, or were never within reach.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <set>

#include "base/mutex.h"
#include "circle.h"
#include "engine/join_messages.h"
#include "engine/newcomer.h"
#include "engine/observer.h"
#include "engine/replay_log.h"
#include "engine/sentinel.h"
#include "engine/state.h"
#include "eventually.h"

namespace hora::control {
namespace {

using engine::Introduction;
using engine::JoinMessage;
using engine::Newcomer;
using engine::Observer;
using engine::Welcome;

constexpr std::uint64_t kValue = 42;
constexpr std::uint64_t kStep = 5;

std::optional<JoinMessage> joining(std::span<const std::byte> message) {
  return engine::decode_join_message(message.subspan(1));
}

// A member as far as newcomers see it.
class Founder final : public LoopHandler {
 public:
  Founder(Mesh& mesh, const View& view) : mesh_(mesh), view_(view) {}

  bool has_stream() const {
    const MutexLock lock(mutex_);
    return static_cast<bool>(stream_);
  }
  UniqueFd take_stream() {
    const MutexLock lock(mutex_);
    return std::move(stream_);
  }
  void tell(MemberId newcomer, const View& view) {
    const auto message = engine::encode_join_message(Welcome{view});
    (void)mesh_.send(newcomer, engine::with_subject(engine::Subject::joining, message));
  }

 private:
  void on_message(MemberId from, std::span<const std::byte> message) override {
    if (const auto heard = joining(message); heard && std::holds_alternative<Introduction>(*heard)) tell(from, view_);
  }
  void on_link_down(MemberId) override {}
  void on_readable(int) override {}
  void on_link(PeerLink) override {}
  void on_stream(MemberId, UniqueFd socket) override {
    const MutexLock lock(mutex_);
    stream_ = std::move(socket);
  }

  Mesh& mesh_;
  const View view_;
  mutable Mutex mutex_;
  UniqueFd stream_ GUARDED_BY(mutex_);
};

// What a newcomer's sentinel does for it.
class Ear final : public LoopHandler {
 public:
  explicit Ear(Newcomer& newcomer) : newcomer_(newcomer) {}

 private:
  void on_message(MemberId from, std::span<const std::byte> message) override {
    if (const auto heard = joining(message); heard && std::holds_alternative<Welcome>(*heard))
      newcomer_.on_welcome(from, std::get<Welcome>(*heard).view);
  }
  void on_link_down(MemberId peer) override { newcomer_.on_link_down(peer); }
  void on_readable(int) override {}
  void on_link(PeerLink) override {}
  void on_stream(MemberId, UniqueFd) override {}

  Newcomer& newcomer_;
};

class Running {
 public:
  Running(Mesh& mesh, LoopHandler& handler)
      : mesh_(mesh), thread_([&] {
          while (!stop_) mesh.run_once(std::nullopt, handler);
        }) {}
  ~Running() {
    stop_ = true;
    mesh_.wake();
    thread_.join();
  }

 private:
  Mesh& mesh_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// `size` founders on one host, who tell of their view and of `others`, and a newcomer.
struct Following {
  explicit Following(int size, Duration patience, const std::vector<Member>& others = {}) : circle(size) {
    circle.connect_all();
    view = circle.view;
    view.members.insert(view.members.end(), others.begin(), others.end());
    for (auto& founder : circle.meshes) {
      founders.push_back(std::make_unique<Founder>(*founder, view));
      loops.push_back(std::make_unique<Running>(*founder, *founders.back()));
    }
    std::tie(self, mesh) = circle.come(1);
    auto made = Newcomer::create(
        self, -1, *mesh, [](PeerLink) {}, patience, circle.clock, circle.log);
    REQUIRE(made.status().to_string() == "ok");
    newcomer = std::move(*made);
    ear = std::make_unique<Ear>(*newcomer);
    loop = std::make_unique<Running>(*mesh, *ear);
    REQUIRE(state.add("value", std::as_writable_bytes(std::span(&value, 1))).ok());
  }
  ~Following() {
    newcomer->on_end(Status(StatusCode::shut_down, "the test is over"));
    if (crossed.valid()) crossed.wait();
  }

  [[nodiscard]] engine::RunningJob job() const { return {view.config, view.members}; }
  // The next boundary; the first one returns once the state has come.
  void cross() {
    if (!observer) observer = std::make_unique<Observer>(*newcomer, state, circle.log);
    crossed = std::async(std::launch::async, [this] { (void)observer->cross(); });
  }
  [[nodiscard]] bool has_crossed() const { return crossed.wait_for(0s) == std::future_status::ready; }
  // The founder whom the newcomer asks for the state.
  [[nodiscard]] std::size_t donor() const {
    const auto asked = [](const auto& founder) { return founder->has_stream(); };
    REQUIRE(eventually([&] { return std::ranges::any_of(founders, asked); }));
    return static_cast<std::size_t>(std::ranges::find_if(founders, asked) - founders.begin());
  }
  void give_state(std::size_t founder, const View& seen) {
    wire::Bytes bytes = engine::encode_entry(engine::SnapshotEntry{state.description(), seen, kStep, sizeof kValue});
    const auto payload = std::as_bytes(std::span(&kValue, 1));
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    given = founders[founder]->take_stream();
    REQUIRE(::send(given.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()));
  }
  void end_founder(std::size_t founder) {
    loops[founder].reset();
    founders[founder].reset();
    circle.meshes[founder].reset();
  }

  Circle circle;
  View view;
  std::vector<std::unique_ptr<Founder>> founders;
  std::vector<std::unique_ptr<Running>> loops;
  Member self;
  std::unique_ptr<Mesh> mesh;
  std::unique_ptr<Newcomer> newcomer;
  std::unique_ptr<Ear> ear;
  std::unique_ptr<Running> loop;
  engine::StateRegistry state;
  std::uint64_t value = 0;
  UniqueFd given;
  std::unique_ptr<Observer> observer;
  std::future<void> crossed;
};

TEST_CASE("a newcomer asks another member for the state when its donor is expelled") {
  Following job(2, 20s);
  REQUIRE(job.newcomer->find(job.job()).to_string() == "ok");
  job.cross();
  const std::size_t first = job.donor(), second = 1 - first;
  View next = job.view;
  next.epoch = Epoch{2};
  next.members.erase(next.members.begin() + static_cast<std::ptrdiff_t>(first));
  // The first one keeps its stream open: it is stopped, or was fenced and lives on.
  job.founders[second]->tell(job.self.id, next);
  REQUIRE(eventually([&] { return job.founders[second]->has_stream(); }));
  job.give_state(second, next);
  REQUIRE(eventually([&] { return job.has_crossed(); }));
  job.crossed.get();
  CHECK(job.observer->step() == kStep);
  CHECK(job.value == kValue);
  CHECK(job.observer->rank() == Rank{0});
}

TEST_CASE("a newcomer follows no donor that was expelled after the newcomer has entered") {
  Following job(2, 20s);
  REQUIRE(job.newcomer->find(job.job()).to_string() == "ok");
  job.cross();
  const std::size_t donor = job.donor();
  job.give_state(donor, job.view);
  REQUIRE(eventually([&] { return job.has_crossed(); }));
  job.crossed.get();
  job.newcomer->on_entered(Epoch{2});
  job.cross();
  View next = job.view;
  next.epoch = Epoch{3};
  next.members[donor] = job.self;
  job.newcomer->on_view(next);
  REQUIRE(eventually([&] { return job.has_crossed(); }));
  CHECK_THROWS_AS(job.crossed.get(), Error);
}

TEST_CASE("a newcomer gives up when nobody is left and some could never be reached") {
  Following job(1, 20s, {Member{MemberId{7}, 9, "tcp:127.0.0.1:1"}});
  REQUIRE(job.newcomer->find(job.job()).to_string() == "ok");
  job.cross();
  CHECK(job.donor() == 0);
  job.end_founder(0);
  REQUIRE(eventually([&] {
    job.circle.clock.shift(1s);
    return job.has_crossed();
  }));
  try {
    job.crossed.get();
    FAIL("it joined nobody");
  } catch (const Error& error) {
    CHECK(error.code() == StatusCode::timed_out);
    CHECK_THAT(error.what(), Catch::Contains("none of the 2 members could be reached for 20000 ms"));
  }
}

TEST_CASE("a host that does not answer delays the search for a living member once") {
  Following job(1, 3s);
  auto listener = listen_in_range("127.0.0.1", 0, 0);
  REQUIRE(listener.ok());
  engine::RunningJob seen = job.job();
  for (std::uint64_t mute = 1; mute <= 3; ++mute)
    seen.members.push_back({MemberId{mute}, 9, address_of(*listener, "tcp:127.0.0.1:0").value()});
  CHECK(job.newcomer->find(seen).to_string() == "ok");
}

TEST_CASE("a newcomer without descriptors is refused") {
  Following job(1, 20s);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{0, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const auto made = Newcomer::create(
      job.self, -1, *job.mesh, [](PeerLink) {}, 20s, job.circle.clock, job.circle.log);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(made.status().code() == StatusCode::resource);
}

}  // namespace
}  // namespace hora::control
