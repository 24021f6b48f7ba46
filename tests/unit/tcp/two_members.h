// Two members of a view with a link between them, for tests.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "transports/tcp/socket_pairs.h"
#include "unit/tcp/connected.h"

namespace hora::tcp {

using Bytes = std::vector<std::byte>;

// Far beyond what any test needs.
inline constexpr std::chrono::seconds kDeadline{60};

inline Bytes pattern(std::size_t bytes, unsigned seed) {
  Bytes data(bytes);
  for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>((i * 7 + i / 251 + seed) & 0xff);
  return data;
}

enum class Wire : std::uint8_t {
  tcp,
  narrow_tcp,  // so little room that messages pass in pieces, and yet a segment of loopback fits
  local,       // Unix sockets, and so shared memory
};
inline constexpr Wire kWires[] = {Wire::tcp, Wire::narrow_tcp, Wire::local};

struct TwoMembers {
  static constexpr int kSmallSend = 8 << 10;
  static constexpr int kSmallReceive = 96 << 10;

  TwoMembers(const TwoMembers&) = delete;
  TwoMembers& operator=(const TwoMembers&) = delete;
  explicit TwoMembers(Wire wire = Wire::tcp, int sockets_per_channel = 2) {
    std::vector<UniqueFd> sockets[2];
    for (int i = 0; i < kChannelCount * sockets_per_channel; ++i) {
      auto [dialed, accepted] = wire == Wire::local ? connect_locally() : listener_.connect();
      if (wire == Wire::narrow_tcp)
        for (const UniqueFd* end : {&dialed, &accepted}) {
          checked(::setsockopt(end->get(), SOL_SOCKET, SO_SNDBUF, &kSmallSend, sizeof(int)), "SO_SNDBUF");
          checked(::setsockopt(end->get(), SOL_SOCKET, SO_RCVBUF, &kSmallReceive, sizeof(int)), "SO_RCVBUF");
        }
      raw.push_back(duplicate(dialed));
      sockets[0].push_back(std::move(dialed));
      sockets[1].push_back(std::move(accepted));
    }
    for (std::size_t rank = 0; rank < 2; ++rank) {
      ends.push_back(
          SocketPairs::create([this, rank](MemberId, const std::string& why) { faults[rank].push_back(why); }).value());
      ends[rank]->add(member(1 - rank), Link::create(std::move(sockets[rank])).value());
    }
    enter(0, 1);
    enter(1, 1);
  }

  static MemberId member(std::size_t rank) { return MemberId{10 + rank}; }
  void enter(std::size_t rank, std::uint64_t epoch) {
    View view;
    view.epoch = Epoch{epoch};
    view.members = {{member(0), 1, ""}, {member(1), 1, ""}};
    ends[rank]->enter(view);
  }
  // From rank 0 to rank 1.
  bool send(const Tag& tag, const Bytes& data) { return ends[0]->try_send(Rank{1}, tag, data); }
  bool receive(const Tag& tag, Bytes& data) { return ends[1]->try_receive(Rank{0}, tag, data).value(); }
  // Sends and receives until the message has come; false at the deadline.
  bool pass(const Tag& tag, const Bytes& data, Bytes& received) {
    const auto deadline = std::chrono::steady_clock::now() + kDeadline;
    bool sent = false, came = false;
    while (!(sent && came) && std::chrono::steady_clock::now() < deadline) {
      if (!sent) sent = send(tag, data);
      if (!came) came = receive(tag, received);
    }
    return sent && came;
  }

  std::vector<UniqueFd> raw;  // second descriptors of the sockets of rank 0
  std::vector<std::unique_ptr<SocketPairs>> ends;
  std::vector<std::string> faults[2];  // reported to each rank

 private:
  Listener listener_;
};

}  // namespace hora::tcp
