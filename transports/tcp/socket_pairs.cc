#include "transports/tcp/socket_pairs.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "transports/tcp/ring_stream.h"
#include "transports/tcp/socket_stream.h"

namespace hora::tcp {
namespace {

Status no_descriptor(const char* what) {
  return {StatusCode::resource,
          fmt::format("{} for data connections failed: {}; raise the limit on open files (ulimit -n)", what,
                      std::strerror(errno))};
}

// A small message must not wait for the acknowledgement of the one before. Not every family knows the option.
void send_at_once(int socket) {
  const int on = 1;
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

bool is_local(int socket) {
  int family = AF_UNSPEC;
  socklen_t length = sizeof(family);
  return ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &length) == 0 && family == AF_UNIX;
}

}  // namespace

Result<std::unique_ptr<SocketPairs>> SocketPairs::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return no_descriptor("epoll");
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return no_descriptor("eventfd");
  epoll_event awaited{};
  awaited.events = EPOLLIN;
  awaited.data.fd = event.get();
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.get(), &awaited) != 0) return no_descriptor("epoll");
  return std::unique_ptr<SocketPairs>(new SocketPairs(std::move(epoll), std::move(event)));
}

SocketPairs::SocketPairs(UniqueFd epoll, UniqueFd event) : sleeper_(std::move(epoll), std::move(event)) {}

SocketPairs::~SocketPairs() = default;

Status SocketPairs::add(MemberId peer, std::vector<UniqueFd> sockets) {
  if (sockets.empty() || sockets.size() % kChannelCount != 0)
    return {StatusCode::invalid_argument, fmt::format("{} sockets cannot be shared by two channels", sockets.size())};
  std::array<Streams, kChannelCount> streams;
  const std::size_t each = sockets.size() / kChannelCount;
  const bool shares_memory = is_local(sockets[0].get());
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    Streams& of_channel = streams[i / each];
    if (!shares_memory) {
      send_at_once(sockets[i].get());
      of_channel.push_back(std::make_unique<SocketStream>(std::move(sockets[i])));
    } else if (of_channel.empty()) {  // one ring is as fast as several
      auto ring = RingStream::create(std::move(sockets[i]));
      if (!ring.ok()) return ring.status();
      of_channel.push_back(std::move(ring).value());
    }
  }
  remove(peer);
  links_[peer] = std::make_unique<Link>(std::move(streams[0]), std::move(streams[1]));
  return {};
}

void SocketPairs::remove(MemberId peer) {
  const auto found = links_.find(peer);
  if (found == links_.end()) return;
  close(*found->second);
  links_.erase(found);
}

// Says goodbye to epoll before the descriptors close: a forked child may keep the sockets open, and epoll with them.
void SocketPairs::close(Link& link) {
  link.for_each_stream([this](Stream& stream) { sleeper_.watch(stream, 0); });
  for (Link*& of_rank : by_rank_)
    if (of_rank == &link) of_rank = nullptr;
}

void SocketPairs::enter(const View& view) {
  for (auto link = links_.begin(); link != links_.end();) {
    // Who has not been in a view yet may enter a later one.
    if (!link->second->entered || view.rank_of(link->first)) {
      ++link;
      continue;
    }
    close(*link->second);
    link = links_.erase(link);
  }
  by_rank_.assign(view.members.size(), nullptr);
  for (std::size_t rank = 0; rank < view.members.size(); ++rank) {
    const auto link = links_.find(view.members[rank].id);
    if (link == links_.end()) continue;
    by_rank_[rank] = link->second.get();
    link->second->enter(view.epoch);
  }
}

bool SocketPairs::try_send(Rank to, const Tag& tag, std::span<const std::byte> data) {
  Link* link = link_to(to);
  return link != nullptr && link->send(tag, data, moves_);
}

Result<bool> SocketPairs::try_receive(Rank from, const Tag& tag, std::span<std::byte> data) {
  Link* link = link_to(from);
  if (link == nullptr) return false;
  auto received = link->receive(tag, data, moves_);
  if (link->malformed()) {
    std::erase_if(links_, [&](const auto& entry) {
      if (entry.second.get() != link) return false;
      close(*link);
      return true;
    });
  }
  return received;
}

void SocketPairs::begin_sleep() {
  for (const auto& [peer, link] : links_) link->for_each_stream([](Stream& stream) { stream.await_nothing(); });
  sleeper_.begin();
}

void SocketPairs::sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) {
  bool ready = false;
  for (const auto& [peer, link] : links_)
    link->for_each_stream([&](Stream& stream) {
      std::uint32_t events = 0;
      ready |= !stream.arm(events);
      sleeper_.watch(stream, events);
    });
  // Acquire: what the change announces is to be seen by whoever sleeps.
  if (ready || wake_word.load(std::memory_order_acquire) != seen) return;
  sleeper_.wait(timeout);
}

void SocketPairs::end_sleep() {
  sleeper_.end();
  for (const auto& [peer, link] : links_) link->for_each_stream([](Stream& stream) { stream.disarm(); });
}

}  // namespace hora::tcp
