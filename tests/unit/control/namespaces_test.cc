// Members in two network namespaces, as if on two hosts: which address they publish, and that it connects them.
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <set>

#include "base/network_interface.h"
#include "circle.h"
#include "elastic/store/store_client.h"
#include "elastic/store/store_server.h"
#include "engine/bootstrap.h"

namespace hora::control {
namespace {

using Catch::Contains;

void skip(const std::string& reason) {
  std::printf("SKIPPED: %s\n", reason.c_str());
}

bool run(const std::string& command) {
  return std::system((command + " >/dev/null 2>&1").c_str()) == 0;
}

// Two namespaces with one cable between them. They end with the object.
class TwoHosts {
 public:
  TwoHosts() : name_("hora-" + entropy_hex(4)) {
    made_ = run("ip netns add " + host(0)) && run("ip netns add " + host(1)) &&
            run("ip link add hora0 netns " + host(0) + " type veth peer name hora1 netns " + host(1));
    for (int i = 0; made_ && i < 2; ++i) {
      const std::string at = "ip -n " + host(i), end = "hora" + std::to_string(i);
      made_ = run(at + " link set lo up") && run(at + " addr add " + address(i) + "/24 dev " + end) &&
              run(at + " link set " + end + " up");
    }
  }
  ~TwoHosts() {
    for (int i = 0; i < 2; ++i) (void)run("ip netns del " + host(i));
  }
  TwoHosts(const TwoHosts&) = delete;
  TwoHosts& operator=(const TwoHosts&) = delete;

  [[nodiscard]] bool made() const { return made_; }
  // Takes the far end of the cable down: what host 0 sends is lost.
  bool cut() { return run("ip -n " + host(1) + " link set hora1 down"); }
  [[nodiscard]] static std::string address(int i) { return "10.213.77." + std::to_string(i + 1); }

  // A thread whose sockets are those of host `i`.
  template <typename Body>
  std::thread on(int i, Body body) {
    return std::thread([path = "/run/netns/" + host(i), body] {
      const UniqueFd space(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!space || ::setns(space.get(), CLONE_NEWNET) != 0) std::abort();
      body();
    });
  }

 private:
  [[nodiscard]] std::string host(int i) const { return name_ + "-" + std::to_string(i); }

  std::string name_;
  bool made_ = false;
};

// What became of one member; a thread that is not the test's cannot assert.
struct Arrived {
  Status status;
  std::string address;
  std::vector<PeerLink> links;
  std::unique_ptr<Mesh> mesh;
};

Arrived arrive(const Options& options, std::uint64_t host, const Clock& clock, const Log& log) {
  Arrived arrived;
  const auto go = [&]() -> Status {
    auto tcp_host = engine::own_tcp_host(options);
    if (!tcp_host.ok()) return tcp_host.status();
    const MemberId id{entropy64()};
    auto mesh = Mesh::listen({id, "job", "secret", host}, {*tcp_host, 0, 0}, clock, log);
    if (!mesh.ok()) return mesh.status();
    arrived.mesh = std::move(*mesh);
    arrived.address = arrived.mesh->address();
    store::StoreClient store({options.store, "job", "secret"}, clock);
    auto founding = engine::agree(options, &store, clock, {id, host, arrived.address});
    if (!founding.ok()) return founding.status();
    auto links = arrived.mesh->connect_all(founding->view, founding->self, -1, clock.now() + 20s);
    if (!links.ok()) return links.status();
    arrived.links = std::move(*links);
    return {};
  };
  arrived.status = go();
  return arrived;
}

TEST_CASE("members of two namespaces meet where the store is reached, and a cut cable ends their link") {
  if (::geteuid() != 0) return skip("network namespaces need root");
  TwoHosts hosts;
  if (!hosts.made()) return skip("ip netns or a veth pair cannot be made here");
  const SystemClock clock;
  const Log log{LogLevel::error, "test"};

  std::unique_ptr<store::StoreServer> store;
  hosts
      .on(0,
          [&] {
            auto started =
                store::StoreServer::start({"tcp:" + TwoHosts::address(0) + ":0", "job", "secret"}, clock, log);
            if (started.ok()) store = std::move(*started);
          })
      .join();
  REQUIRE(store != nullptr);

  Arrived members[2];
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank)
    threads.push_back(hosts.on(rank, [&, rank] {
      Options options;
      options.rank = rank;
      options.size = 2;
      options.store = store->address();
      options.silence_ms = 100;
      // By its name, and by excluding all others.
      options.socket_interface = rank == 0 ? "" : "^lo,docker";
      members[rank] = arrive(options, static_cast<std::uint64_t>(rank) + 1, clock, log);
    }));
  for (auto& thread : threads) thread.join();

  for (int rank = 0; rank < 2; ++rank) {
    REQUIRE(members[rank].status.to_string() == "ok");
    CHECK_THAT(members[rank].address, Catch::StartsWith("tcp:" + TwoHosts::address(rank) + ":"));
    REQUIRE(members[rank].links.size() == 1);
    CHECK(members[rank].links[0].data.size() == 4);
    CHECK_FALSE(members[rank].links[0].pidfd);
  }
  REQUIRE(members[0].mesh->send(members[0].links[0].id, text("across")).ok());
  Recorder recorder;
  const TimePoint deadline = clock.now() + 10s;
  while (recorder.messages.empty() && clock.now() < deadline) members[1].mesh->run_once(deadline, recorder);
  REQUIRE(recorder.messages.size() == 1);
  CHECK(recorder.messages[0].second == text("across"));

  const Member peer{members[0].links[0].id, 2, members[1].address};
  AgreedConfig config;
  config.silence_ms = 100;
  Result<UniqueFd> stream = Status(StatusCode::internal, "");
  std::atomic<bool> opened{false};
  std::thread opener = hosts.on(0, [&] {
    stream = members[0].mesh->open_stream(peer, config, clock.now() + 10s);
    opened = true;
    members[1].mesh->wake();
  });
  while (!opened) members[1].mesh->run_once(std::nullopt, recorder);
  opener.join();
  REQUIRE(stream.status().to_string() == "ok");

  // Nobody closes or says anything: only the missing acknowledgement tells, of the link and of the stream.
  REQUIRE(hosts.cut());
  Recorder left;
  const TimePoint end = clock.now() + 10s;
  while (left.downs.empty() && clock.now() < end) members[0].mesh->run_once(end, left);
  CHECK(left.downs == std::vector{members[0].links[0].id});
  CHECK(closed_within_10s(stream->get()));
}

TEST_CASE("a member that may only use loopback cannot serve another host") {
  if (::geteuid() != 0) return skip("network namespaces need root");
  TwoHosts hosts;
  if (!hosts.made()) return skip("ip netns or a veth pair cannot be made here");
  Options options;
  options.store = "tcp:" + TwoHosts::address(0) + ":9";
  options.socket_interface = "=lo";
  std::optional<Status> status;
  hosts.on(1, [&] { status = engine::own_tcp_host(options).status(); }).join();
  CHECK(status->code() == StatusCode::invalid_argument);
  CHECK_THAT(std::string(status->message()), Contains("HORA_SOCKET_IFNAME") && Contains("hora1"));
}

// For the calling thread alone: what /etc/hosts says.
bool set_hosts(const std::string& text) {
  std::string path = "/tmp/hora-hosts-XXXXXX";
  const UniqueFd file(::mkstemp(path.data()));
  const bool written = file && ::fchmod(file.get(), 0644) == 0 &&
                       ::write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
  const bool mounted = written && ::unshare(CLONE_NEWNS) == 0 &&
                       ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                       ::mount(path.c_str(), "/etc/hosts", nullptr, MS_BIND, nullptr) == 0;
  ::unlink(path.c_str());
  return mounted;
}

TEST_CASE("a store at a host's own name serves other hosts, though the name means loopback at home") {
  if (::geteuid() != 0) return skip("network namespaces need root");
  TwoHosts hosts;
  if (!hosts.made()) return skip("ip netns or a veth pair cannot be made here");
  const SystemClock clock;
  const Log log{LogLevel::error, "test"};
  std::unique_ptr<store::StoreServer> server;
  std::string published;
  bool mounted = false;
  hosts
      .on(0,
          [&] {
            mounted = set_hosts("127.0.1.1 node0\n");
            auto started = store::StoreServer::start({"tcp:node0:0", "job", "secret"}, clock, log);
            if (started.ok()) server = std::move(*started);
            Options options;
            options.store = "tcp:node0:9";
            published = engine::own_tcp_host(options).value();
          })
      .join();
  if (!mounted) return skip("nothing can be mounted here");
  REQUIRE(server != nullptr);
  CHECK(published == TwoHosts::address(0));
  std::optional<Status> met;
  hosts
      .on(1,
          [&] {
            mounted = set_hosts(TwoHosts::address(0) + " node0\n");
            met = store::StoreClient({server->address(), "job", "secret"}, clock).set("k", "v");
          })
      .join();
  REQUIRE(mounted);
  CHECK(met->to_string() == "ok");
}

TEST_CASE("who dials a name again comes to each of its addresses") {
  if (::geteuid() != 0) return skip("a mount namespace needs root");
  bool mounted = false;
  std::set<int> accepted;
  std::thread([&] {
    mounted = set_hosts("127.0.0.1 twice\n127.0.0.2 twice\n");
    if (!mounted) return;
    const auto first = listen_in_range("127.0.0.1", 0, 0);
    if (!first.ok()) return;
    const std::string port = address_of(first.value(), "tcp:twice:0").value();
    const auto second = listen_at("tcp:127.0.0.2" + port.substr(port.rfind(':')));
    if (!second.ok()) return;
    std::vector<UniqueFd> dialed;
    for (std::size_t attempt = 0; attempt < 2; ++attempt) {
      auto socket = dial(port, attempt);
      if (!socket.ok()) return;
      dialed.push_back(std::move(*socket));
      pollfd waiting[] = {{first.value().get(), POLLIN, 0}, {second.value().get(), POLLIN, 0}};
      if (::poll(waiting, 2, 10'000) < 1) return;
      const int which = waiting[0].revents != 0 ? 0 : 1;
      accepted.insert(which);
      (void)accept_from(which == 0 ? first.value() : second.value());
    }
  }).join();
  if (!mounted) return skip("nothing can be mounted here");
  CHECK(accepted == std::set{0, 1});
}

}  // namespace
}  // namespace hora::control
