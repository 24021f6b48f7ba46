// Newcomers that dial a running mesh, and strangers that try.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <filesystem>
#include <map>

#include "base/mutex.h"
#include "circle.h"
#include "eventually.h"

namespace hora::control {
namespace {

using Catch::Contains;

// A handler whose loop runs on a thread of its own. Answers each message, so that messages flow.
class MeshLoop : LoopHandler {
 public:
  explicit MeshLoop(Mesh& mesh) : mesh_(mesh) {
    thread_ = std::thread([this] {
      while (!stop_) mesh_.run_once(std::nullopt, *this);
    });
  }
  ~MeshLoop() override {
    stop_ = true;
    mesh_.wake();
    thread_.join();
  }

  int messages_of(MemberId id) const {
    const MutexLock lock(mutex_);
    const auto found = messages_.find(id);
    return found == messages_.end() ? 0 : found->second;
  }
  std::size_t links() const {
    const MutexLock lock(mutex_);
    return links_.size();
  }
  std::size_t downs() const {
    const MutexLock lock(mutex_);
    return downs_.size();
  }
  std::vector<PeerLink> take_links() {
    const MutexLock lock(mutex_);
    return std::exchange(links_, {});
  }
  std::vector<std::pair<MemberId, UniqueFd>> take_streams() {
    const MutexLock lock(mutex_);
    return std::exchange(streams_, {});
  }

 private:
  void on_message(MemberId from, std::span<const std::byte> message) override {
    {
      const MutexLock lock(mutex_);
      ++messages_[from];
    }
    (void)mesh_.send(from, message);
  }
  void on_link_down(MemberId peer) override {
    const MutexLock lock(mutex_);
    downs_.push_back(peer);
  }
  void on_readable(int) override {}
  void on_link(PeerLink link) override {
    const MutexLock lock(mutex_);
    links_.push_back(std::move(link));
  }
  void on_stream(MemberId from, UniqueFd socket) override {
    const MutexLock lock(mutex_);
    streams_.emplace_back(from, std::move(socket));
  }

  Mesh& mesh_;
  mutable Mutex mutex_;
  std::map<MemberId, int> messages_ GUARDED_BY(mutex_);
  std::vector<MemberId> downs_ GUARDED_BY(mutex_);
  std::vector<PeerLink> links_ GUARDED_BY(mutex_);
  std::vector<std::pair<MemberId, UniqueFd>> streams_ GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// Founders that run, and play ball with each other.
struct RunningJob {
  explicit RunningJob(Shape shape) : circle(std::move(shape)), segment(::memfd_create("segment", MFD_CLOEXEC)) {
    circle.connect_all(segment.get());
    for (auto& mesh : circle.meshes) loops.push_back(std::make_unique<MeshLoop>(*mesh));
    REQUIRE(circle.meshes[0]->send(circle.id(1), text("ball")).ok());
  }
  ~RunningJob() { loops.clear(); }

  // The ball goes on, and nobody is down.
  void check_undisturbed() {
    for (std::size_t rank = 0; rank < 2; ++rank) {
      const int before = loops[rank]->messages_of(circle.id(1 - rank));
      CHECK(eventually([&] { return loops[rank]->messages_of(circle.id(1 - rank)) > before + 10; }));
    }
  }
  Result<PeerLink> dial(Mesh& mesh, const Member& peer) {
    return mesh.dial(peer, segment.get(), circle.view.config, circle.clock.now() + 20s);
  }

  Circle circle;
  UniqueFd segment;  // of all members
  std::vector<std::unique_ptr<MeshLoop>> loops;
};

const std::vector<Shape> kShapes = {
    {{1, 1, 1}, Transport::shm, 2}, {{1, 1, 2}, Transport::mixed, 2}, {{1, 2, 3}, Transport::tcp, 1}};

void check_connected(const UniqueFd& here, const UniqueFd& there, char sent) {
  REQUIRE(::send(here.get(), &sent, 1, MSG_NOSIGNAL) == 1);
  REQUIRE(readable_within_10s(there.get()));
  char got = 0;
  REQUIRE(::recv(there.get(), &got, 1, 0) == 1);
  CHECK(got == sent);
}

TEST_CASE("a newcomer dials a running mesh while messages flow, opens a stream, and dies") {
  const std::size_t which = GENERATE(0u, 1u, 2u);
  RunningJob job(kShapes[which]);
  const std::uint64_t host = which == 0 ? 1 : 2;
  auto [self, mesh] = job.circle.come(host);
  const MemberId id = self.id;
  auto loop = std::make_unique<MeshLoop>(*mesh);
  for (std::size_t rank = 0; rank < 3; ++rank) {
    const Member& peer = job.circle.view.members[rank];
    auto link = job.dial(*mesh, peer);
    REQUIRE(link.status().to_string() == "ok");
    CHECK(link->id == peer.id);
    REQUIRE(eventually([&] { return job.loops[rank]->links() == 1; }));
    std::vector<PeerLink> theirs = job.loops[rank]->take_links();
    CHECK(theirs[0].id == self.id);
    CHECK(static_cast<bool>(link->segment) == (peer.host == host));
    CHECK(static_cast<bool>(theirs[0].segment) == (peer.host == host));
    CHECK(static_cast<bool>(theirs[0].pidfd) == (peer.host == host));
    REQUIRE(link->data.size() == data_sockets_of(job.circle.view.config));
    REQUIRE(theirs[0].data.size() == link->data.size());
    for (std::size_t index = 0; index < link->data.size(); ++index)
      check_connected(link->data[index], theirs[0].data[index], static_cast<char>(index));
    // Both directions: the ball comes back.
    REQUIRE(mesh->send(peer.id, text("ball")).ok());
    CHECK(eventually([&] { return loop->messages_of(peer.id) > 3 && job.loops[rank]->messages_of(id) > 3; }));

    auto stream = mesh->open_stream(peer, job.circle.view.config, job.circle.clock.now() + 20s);
    REQUIRE(stream.status().to_string() == "ok");
    std::vector<std::pair<MemberId, UniqueFd>> streams;
    REQUIRE(eventually([&] { return !(streams = job.loops[rank]->take_streams()).empty(); }));
    CHECK(streams[0].first == self.id);
    check_connected(*stream, streams[0].second, 's');
    check_connected(streams[0].second, *stream, 't');

    CHECK(job.dial(*mesh, peer).status().code() == StatusCode::invalid_argument);
  }
  job.check_undisturbed();
  loop.reset();
  mesh.reset();
  for (auto& running : job.loops) CHECK(eventually([&] { return running->downs() == 1; }));
  job.check_undisturbed();

  // The same incarnation does not come twice.
  auto again = Mesh::listen({self.id, "job", "secret", host}, {"127.0.0.1", 0, 0}, job.circle.clock, job.circle.log);
  REQUIRE(again.ok());
  CHECK_THAT(std::string(job.dial(**again, job.circle.view.members[0]).status().message()),
             Contains("is connected already, or was"));
}

TEST_CASE("two newcomers at once, of which the later one dials the earlier one") {
  RunningJob job({{1, 1, 2}, Transport::mixed, 2});
  auto [first, first_mesh] = job.circle.come(1);
  auto [second, second_mesh] = job.circle.come(2);
  auto first_loop = std::make_unique<MeshLoop>(*first_mesh);
  auto second_loop = std::make_unique<MeshLoop>(*second_mesh);
  std::atomic<int> made{0};
  const auto dial_all = [&](Mesh& mesh, std::vector<Member> peers) {
    for (const Member& peer : peers)
      if (job.dial(mesh, peer).ok()) ++made;
  };
  std::vector<Member> founders_and_first = job.circle.view.members;
  founders_and_first.push_back(first);
  std::thread one([&, mesh = first_mesh.get()] { dial_all(*mesh, job.circle.view.members); });
  std::thread two([&, mesh = second_mesh.get()] { dial_all(*mesh, founders_and_first); });
  one.join();
  two.join();
  CHECK(made == 7);
  CHECK(eventually([&] { return first_loop->links() == 1; }));
  CHECK(first_loop->take_links().at(0).data.size() == 4);
  for (auto& running : job.loops) CHECK(eventually([&] { return running->links() == 2; }));
  const MemberId first_id = first.id;
  REQUIRE(second_mesh->send(first_id, text("ball")).ok());
  CHECK(eventually([&] { return second_loop->messages_of(first_id) > 0; }));
  job.check_undisturbed();
}

// Takes a handshake as far as `steps`: 1 hello, 2 proof, 3 accept.
void shake_partly(UniqueFd socket, HandshakeIdentity self, int steps) {
  Handshake handshake(Handshake::Role::dialer, std::move(self), "secret", Handshake::Nonce{});
  FrameWriter writer;
  FrameReader reader;
  wire::Bytes frame = handshake.hello();
  for (int step = 1; step <= steps; ++step) {
    REQUIRE(writer.send(socket.get(), frame).ok());
    if (step == steps) return;
    for (;;) {
      auto answer = reader.next();
      REQUIRE(answer.ok());
      if (*answer) {
        auto reply = handshake.on_frame(**answer);
        REQUIRE(reply.status().to_string() == "ok");
        frame = std::move(reply->frame);
        break;
      }
      REQUIRE(readable_within_10s(socket.get()));
      REQUIRE(reader.fill(socket.get()).ok());
    }
  }
}

TEST_CASE("a newcomer that dies at any step of its handshake disturbs nobody") {
  RunningJob job({{1, 2}, Transport::mixed, 1});
  const MemberId id{entropy64()};
  const std::string local = local_address_of(job.circle.id(0));
  const std::string remote = job.circle.view.members[0].address;
  std::uint64_t attempt = 0;
  for (const std::string& address : {local, remote})
    for (const char* purpose : {"control", "data", "state"})
      for (int steps = 0; steps <= 3; ++steps)
        shake_partly(dial_now(address), {purpose, "job", id, ++attempt, 0}, steps);
  // Of the two data connections and the control connection only two came.
  for (const std::uint32_t index : {0u, 1u}) {
    ++attempt;
    HandshakingSocket data(dial_now(remote), Handshake::Role::dialer, {"data", "job", id, attempt, index}, "secret");
    REQUIRE(finish(data).ok());
    shake_partly(dial_now(remote), {"control", "job", id, attempt, 0}, 3);
  }
  job.check_undisturbed();
  CHECK(job.loops[0]->links() == 0);
  CHECK(job.loops[0]->take_streams().empty());

  // It never was a member's link, so this incarnation may still come.
  auto mesh = Mesh::listen({id, "job", "secret", 3}, {"127.0.0.1", 0, 0}, job.circle.clock, job.circle.log);
  REQUIRE(mesh.ok());
  CHECK(job.dial(**mesh, job.circle.view.members[0]).status().to_string() == "ok");
  CHECK(eventually([&] { return job.loops[0]->links() == 1; }));
  CHECK(job.loops[0]->downs() == 0);
}

TEST_CASE("a running mesh refuses strangers with the reason") {
  RunningJob job({{1, 2}, Transport::mixed, 1});
  HandshakeIdentity stranger{"control", "job", MemberId{entropy64()}};
  std::string secret = "secret", expected;
  SECTION("wrong secret") {
    secret = "guess", expected = "secret";
  }
  SECTION("wrong job") {
    stranger.job = "other", expected = "job \"job\" met job \"other\"";
  }
  SECTION("wrong version") {
    stranger.version = 9, expected = "protocol version 2 met protocol version 9";
  }
  SECTION("wrong purpose") {
    stranger.purpose = "store", expected = "a store connection met a control socket";
  }
  SECTION("a stream of nobody") {
    stranger.purpose = "state", expected = "is not linked";
  }
  SECTION("more data connections than there are") {
    stranger.purpose = "data", stranger.index = 2, expected = "data connection 2 of 2";
  }
  SECTION("a member that is linked") {
    stranger.member = job.circle.id(1), expected = "is connected already";
  }
  SECTION("the member itself") {
    stranger.member = job.circle.id(0), expected = "itself";
  }
  for (const std::string& address : {local_address_of(job.circle.id(0)), job.circle.view.members[0].address}) {
    HandshakingSocket socket(dial_now(address), Handshake::Role::dialer, stranger, secret);
    CHECK_THAT(std::string(finish(socket).message()), Contains(expected));
    CHECK(closed_within_10s(socket.fd()));
  }
  job.check_undisturbed();
  CHECK(job.loops[0]->links() == 0);
}

std::ptrdiff_t open_descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return std::distance(begin(all), end(all));
}

TEST_CASE("a flood of strangers takes a bounded number of descriptors, and passes") {
  constexpr std::size_t kFlood = 300, kAtOnce = 64, kOfFounders = 3;
  RunningJob job({{1, 2}, Transport::mixed, 1});
  const auto before = open_descriptors();
  std::vector<UniqueFd> strangers;
  for (std::size_t i = 0; i < kFlood; ++i) strangers.push_back(dial_now(local_address_of(job.circle.id(0))));
  // Of each that was accepted there are a socket and a descriptor of its process.
  const auto full = before + static_cast<std::ptrdiff_t>(kFlood + 2 * kAtOnce + 2 * kOfFounders);
  REQUIRE(eventually([&] { return open_descriptors() >= full; }));
  job.check_undisturbed();
  CHECK(open_descriptors() == full);
  // Nobody waits longer than the time of a handshake for each lot before it.
  for (std::size_t first = 0; first < kFlood; first += kAtOnce + kOfFounders) {
    job.circle.clock.shift(6s);
    job.circle.meshes[0]->wake();
    CHECK(closed_within_10s(strangers[first].get()));
  }
  auto [self, mesh] = job.circle.come(1);
  CHECK(job.dial(*mesh, job.circle.view.members[0]).status().to_string() == "ok");
  job.check_undisturbed();
}

TEST_CASE("who is dialed and gone refuses, also where another member took its port over") {
  RunningJob job({{1, 2}, Transport::mixed, 1});
  auto [self, mesh] = job.circle.come(3);
  auto [gone, gone_mesh] = job.circle.come(2);
  gone_mesh.reset();
  CHECK(job.dial(*mesh, gone).status().code() == StatusCode::peer_failed);
  gone.host = 3;
  CHECK(job.dial(*mesh, gone).status().code() == StatusCode::peer_failed);
  gone.host = 4;
  gone.address = job.circle.view.members[1].address;
  const Status status = job.dial(*mesh, gone).status();
  CHECK(status.code() == StatusCode::peer_failed);
  CHECK_THAT(std::string(status.message()), Contains("another member"));
  // That one was not troubled, and can be dialed.
  CHECK(job.dial(*mesh, job.circle.view.members[1]).status().to_string() == "ok");
}

TEST_CASE("who is dialed and gone refuses, also where a forked child of it lives on") {
  Circle circle(1);
  auto [self, mesh] = circle.come(1);
  const auto dial = [&, to = &self, from = circle.meshes[0].get()](Duration patience) {
    return from->dial(*to, -1, circle.view.config, circle.clock.now() + patience).status();
  };
  int gate[2];
  REQUIRE(::pipe(gate) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(gate[1]);
    char byte;
    [[maybe_unused]] const auto got = ::read(gate[0], &byte, 1);
    ::_exit(0);
  }
  ::close(gate[0]);
  mesh.reset();
  CHECK(dial(20s).code() == StatusCode::peer_failed);
  self.host = 2;
  CHECK(dial(20s).code() == StatusCode::peer_failed);
  ::close(gate[1]);
  ::waitpid(child, nullptr, 0);
}

TEST_CASE("a newcomer that comes while founders still connect is handed over by the loop") {
  Circle circle(Shape{{1, 2}, Transport::mixed, 1});
  Status outcome;
  std::thread rank0([&] { outcome = circle.connect(0, 20s); });
  auto [self, mesh] = circle.come(1);
  auto link = mesh->dial(circle.view.members[0], -1, circle.view.config, circle.clock.now() + 20s);
  CHECK(link.status().to_string() == "ok");
  CHECK(circle.connect(1, 20s).to_string() == "ok");
  rank0.join();
  REQUIRE(outcome.to_string() == "ok");
  CHECK(circle.links[0].size() == 1);
  REQUIRE(mesh->send(circle.id(0), text("early")).ok());
  Recorder recorder;
  REQUIRE(circle.run_until(0, recorder, [&] { return !recorder.messages.empty(); }));
  REQUIRE(recorder.links.size() == 1);
  CHECK(recorder.links[0].id == self.id);
  CHECK(recorder.links[0].data.size() == 2);
}

TEST_CASE("dialing ends when it is cancelled, and at its deadline") {
  Circle circle(1);
  auto listener = listen_in_range("127.0.0.1", 0, 0);
  REQUIRE(listener.ok());
  const Member mute{MemberId{1}, 9, address_of(*listener, "tcp:127.0.0.1:0").value()};
  const auto dial_mute = [&](Duration patience) {
    return circle.meshes[0]->dial(mute, -1, AgreedConfig(), circle.clock.now() + patience).status();
  };
  const Status late = dial_mute(30ms);
  CHECK(late.code() == StatusCode::timed_out);
  CHECK_THAT(std::string(late.message()), Contains("did not answer within 30 ms"));
  Status cancelled;
  std::thread dialer([&] { cancelled = dial_mute(3600s); });
  auto accepted = accept_from(*listener);
  while (!accepted.ok()) {
    REQUIRE(readable_within_10s(listener->get()));
    accepted = accept_from(*listener);
  }
  circle.meshes[0]->cancel_dials();
  dialer.join();
  CHECK(cancelled.code() == StatusCode::shut_down);
}

TEST_CASE("a mesh that has no descriptor for its reception opens it later") {
  Circle circle(1);
  auto [member, mesh] = circle.come(1);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
  const rlimit none{0, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const auto refused = mesh->dial(circle.view.members[0], -1, circle.view.config, circle.clock.now());
  Recorder recorder;
  mesh->run_once(circle.clock.now(), recorder);
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
  CHECK(refused.status().code() == StatusCode::resource);

  const MeshLoop loop(*mesh);
  const auto link = circle.meshes[0]->dial(member, -1, circle.view.config, circle.clock.now() + 10s);
  CHECK(link.status().to_string() == "ok");
}

}  // namespace
}  // namespace hora::control
