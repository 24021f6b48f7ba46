#include "transports/shm/liveness.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "unit/shm/world.h"

namespace hora::shm::test {
namespace {

class Deaths : public LivenessHandler {
 public:
  void on_peer_ended(MemberId member) override {
    const std::lock_guard lock(mutex_);
    died_.push_back(member);
    changed_.notify_all();
  }
  void on_self_marked() override {
    const std::lock_guard lock(mutex_);
    self_ = true;
    changed_.notify_all();
  }
  bool wait_for(std::size_t deaths) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [&] { return died_.size() >= deaths; });
  }
  std::vector<MemberId> died() {
    const std::lock_guard lock(mutex_);
    return died_;
  }
  bool self_marked() {
    const std::lock_guard lock(mutex_);
    return self_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<MemberId> died_;
  bool self_ = false;
};

std::unique_ptr<LivenessWatcher> watch(Segment& own, LivenessHandler& handler) {
  auto watcher = LivenessWatcher::start(own, handler);
  INFO(watcher.status().to_string());
  REQUIRE(watcher.ok());
  return std::move(watcher).value();
}

// A forked rank that holds its word until it is killed, or leaves when told to. Made before this process has watchers.
class Child {
 public:
  explicit Child(MemberId member, std::size_t memory = 0) {
    int channel[2];
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel) == 0);
    pid_ = fork();
    if (pid_ == 0) run(member, memory, channel[1]);
    ::close(channel[1]);
    link_.reset(channel[0]);
    segment_ = Segment::attach(receive_fd(link_.get()), member, kSmallLayout).value();
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  void kill() const { ::kill(pid_, SIGKILL); }
  void leave() const { CHECK(::write(link_.get(), "l", 1) == 1); }
  void wait_until_left() {
    char byte = 0;
    CHECK(::read(link_.get(), &byte, 1) == 1);
  }
  [[nodiscard]] const std::shared_ptr<const Segment>& segment() const { return segment_; }

 private:
  [[noreturn]] static void run(MemberId member, std::size_t memory, int link);

  pid_t pid_ = -1;
  UniqueFd link_;
  std::shared_ptr<const Segment> segment_;
};

void Child::run(MemberId member, std::size_t memory, int link) {
  auto segment = Segment::create(member, kSmallLayout);
  Deaths deaths;
  std::unique_ptr<LivenessWatcher> watcher = LivenessWatcher::start(*segment.value(), deaths).value();
  if (memory != 0) {
    void* block = mmap(nullptr, memory, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (block == MAP_FAILED) _exit(1);
  }
  char byte = 0;
  if (!send_fd(link, segment.value()->fd()) || ::read(link, &byte, 1) != 1) _exit(1);
  watcher.reset();
  if (::write(link, "d", 1) != 1) _exit(1);
  (void)!::read(link, &byte, 1);
  _exit(0);
}

TEST_CASE("a SIGKILL is told to every survivor, long before the memory is freed") {
  Child victim(MemberId{1}, std::size_t{1} << 30);
  Child other(MemberId{2});
  const auto first = make_segment(MemberId{3});
  const auto second = make_segment(MemberId{4});
  Deaths deaths[2];
  const auto watcher = watch(*first, deaths[0]);
  const auto another = watch(*second, deaths[1]);
  watcher->set_peers({victim.segment(), other.segment()});
  another->set_peers({victim.segment(), other.segment()});
  victim.kill();
  for (Deaths& seen : deaths) {
    REQUIRE(seen.wait_for(1));
    CHECK(seen.died() == std::vector<MemberId>{MemberId{1}});
    CHECK(!seen.self_marked());
  }
}

TEST_CASE("a peer whose watcher ended is told of while its process lives") {
  Child leaver(MemberId{1});
  Child victim(MemberId{2});
  const auto own = make_segment(MemberId{3});
  Deaths deaths;
  const auto watcher = watch(*own, deaths);
  watcher->set_peers({leaver.segment(), victim.segment()});
  leaver.leave();
  REQUIRE(deaths.wait_for(1));
  CHECK(deaths.died() == std::vector<MemberId>{MemberId{1}});
  leaver.wait_until_left();
  leaver.kill();
  victim.kill();
  REQUIRE(deaths.wait_for(2));
  CHECK(deaths.died() == std::vector<MemberId>{MemberId{1}, MemberId{2}});
}

TEST_CASE("a peer that died before it was named is told at once, a removed one never") {
  Child early(MemberId{1});
  Child removed(MemberId{2});
  Child late(MemberId{3});
  early.kill();
  const auto own = make_segment(MemberId{4});
  Deaths deaths;
  const auto watcher = watch(*own, deaths);
  watcher->set_peers({early.segment(), removed.segment()});
  REQUIRE(deaths.wait_for(1));
  watcher->set_peers({early.segment(), late.segment()});
  removed.kill();
  late.kill();
  REQUIRE(deaths.wait_for(2));
  CHECK(deaths.died() == std::vector<MemberId>{MemberId{1}, MemberId{3}});
}

TEST_CASE("more peers than one wait can hold are all watched") {
  std::vector<std::unique_ptr<Segment>> segments;
  std::vector<std::shared_ptr<const Segment>> peers;
  for (std::uint64_t i = 0; i < 130; ++i) {
    segments.push_back(make_segment(MemberId{100 + i}));
    peers.push_back(std::shared_ptr<const Segment>(Segment::attach_in_process(*segments.back())));
  }
  Child victim(MemberId{1});
  peers.push_back(victim.segment());
  const auto own = make_segment(MemberId{2});
  Deaths deaths;
  const auto watcher = watch(*own, deaths);
  watcher->set_peers(peers);
  victim.kill();
  REQUIRE(deaths.wait_for(1));
  CHECK(deaths.died() == std::vector<MemberId>{MemberId{1}});
}

TEST_CASE("a liveness word serves one watcher in its life") {
  const auto own = make_segment(MemberId{1});
  Deaths deaths;
  watch(*own, deaths).reset();
  const auto again = LivenessWatcher::start(*own, deaths);
  REQUIRE(!again.ok());
  CHECK(again.status().code() == StatusCode::invalid_argument);
}

TEST_CASE("a watcher stops at once and peers of the same process see it leave") {
  const auto own = make_segment(MemberId{1});
  const auto other = make_segment(MemberId{2});
  Deaths deaths;
  Deaths others;
  auto watcher = watch(*own, deaths);
  auto second = watch(*other, others);
  second->set_peers({std::shared_ptr<const Segment>(Segment::attach_in_process(*own))});
  watcher.reset();
  CHECK(others.wait_for(1));
  second.reset();
  CHECK(others.died() == std::vector<MemberId>{MemberId{1}});
  CHECK(!deaths.self_marked());
}

}  // namespace
}  // namespace hora::shm::test
