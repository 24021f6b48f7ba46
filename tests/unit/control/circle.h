// Meshes of one job in one process, and strangers that shake hands by hand.
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/entropy.h"
#include "base/handshaking_socket.h"
#include "base/socket_address.h"
#include "interfaces/system_clock.h"
#include "transports/control/mesh.h"

namespace hora::control {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

// Time that a test can move forward.
class ShiftedClock : public Clock {
 public:
  [[nodiscard]] TimePoint now() const override { return SystemClock().now() + Duration(shift_.load()); }
  void shift(Duration by) { shift_ += by.count(); }

 private:
  std::atomic<Duration::rep> shift_{0};
};

inline wire::Bytes text(const std::string& value) {
  const auto raw = std::as_bytes(std::span(value));
  return {raw.begin(), raw.end()};
}

struct Recorder : LoopHandler {
  void on_message(MemberId from, std::span<const std::byte> message) override {
    messages.emplace_back(from, wire::Bytes(message.begin(), message.end()));
  }
  void on_link_down(MemberId peer) override { downs.push_back(peer); }
  void on_readable(int fd) override {
    readable.push_back(fd);
    if (mesh != nullptr) mesh->unwatch(fd);
  }
  void on_link(PeerLink link) override { links.push_back(std::move(link)); }
  void on_stream(MemberId from, UniqueFd socket) override { streams.emplace_back(from, std::move(socket)); }
  Mesh* mesh = nullptr;
  std::vector<PeerLink> links;
  std::vector<std::pair<MemberId, UniqueFd>> streams;
  std::vector<std::pair<MemberId, wire::Bytes>> messages;
  std::vector<MemberId> downs;
  std::vector<int> readable;
};

// Where the members of a test stand, and how they move bytes.
struct Shape {
  std::vector<std::uint64_t> hosts;  // Member::host, by rank
  Transport transport = Transport::shm;
  std::uint32_t sockets_per_pair = 2;
  std::string tcp_host = "127.0.0.1";  // empty: members listen on no TCP address
};

// Founders of one job in this process, not connected yet.
struct Circle {
  explicit Circle(int size) : Circle(Shape{std::vector<std::uint64_t>(static_cast<std::size_t>(size), 1)}) {}
  explicit Circle(Shape of) : shape(std::move(of)) {
    view.epoch = Epoch{1};
    view.config.transport = shape.transport;
    view.config.sockets_per_pair = shape.sockets_per_pair;
    for (const std::uint64_t host : shape.hosts) {
      auto [member, mesh] = come(host);
      view.members.push_back(member);
      meshes.push_back(std::move(mesh));
    }
    links.resize(meshes.size());
  }

  // One more member, connected to nobody.
  std::pair<Member, std::unique_ptr<Mesh>> come(std::uint64_t host) {
    const MemberId id{entropy64()};
    auto mesh = Mesh::listen({id, "job", "secret", host}, {shape.tcp_host, 0, 0}, clock, log);
    REQUIRE(mesh.status().to_string() == "ok");
    Member member{id, host, (*mesh)->address()};
    return {std::move(member), std::move(*mesh)};
  }

  Status connect(std::size_t rank, Duration patience, int segment = -1) {
    auto made = meshes[rank]->connect_all(view, Rank{static_cast<std::int32_t>(rank)}, segment, clock.now() + patience);
    if (!made.ok()) return made.status();
    links[rank] = std::move(*made);
    return {};
  }

  void connect_all(int segment = -1) {
    std::vector<Status> outcomes(meshes.size());
    std::vector<std::thread> threads;
    for (std::size_t rank = 0; rank < meshes.size(); ++rank)
      threads.emplace_back([&, rank] { outcomes[rank] = connect(rank, 20s, segment); });
    for (auto& thread : threads) thread.join();
    for (const Status& status : outcomes) REQUIRE(status.to_string() == "ok");
  }

  // Runs the loop of `rank` until `condition`, at most 10 s.
  bool run_until(std::size_t rank, Recorder& recorder, const std::function<bool()>& condition) {
    const TimePoint deadline = clock.now() + 10s;
    while (!condition()) {
      if (clock.now() >= deadline) return false;
      meshes[rank]->run_once(deadline, recorder);
    }
    return true;
  }

  [[nodiscard]] MemberId id(std::size_t rank) const { return view.members[rank].id; }

  Shape shape;
  ShiftedClock clock;
  Log log{LogLevel::error, "test"};
  View view;
  std::vector<std::unique_ptr<Mesh>> meshes;
  std::vector<std::vector<PeerLink>> links;
};

inline UniqueFd dial_now(const std::string& address) {
  auto socket = dial(address);
  REQUIRE(socket.ok());
  return std::move(*socket);
}

inline bool readable_within_10s(int fd) {
  pollfd polled{fd, POLLIN, 0};
  return ::poll(&polled, 1, 10'000) == 1;
}

inline Status finish(HandshakingSocket& socket) {
  for (;;) {
    Status status = socket.advance();
    if (status.code() != StatusCode::try_again) return status;
    if (!readable_within_10s(socket.fd())) return {StatusCode::timed_out, "the other end is silent"};
  }
}

inline bool closed_within_10s(int fd) {
  char byte;
  while (readable_within_10s(fd)) {
    const ssize_t got = ::recv(fd, &byte, 1, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) return true;
  }
  return false;
}

}  // namespace hora::control
