#include "transports/tcp/socket_pairs.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace hora::tcp {
namespace {

Status no_descriptor(const char* what) {
  return {StatusCode::resource,
          fmt::format("{} for data connections failed: {}; raise the limit on open files (ulimit -n)", what,
                      std::strerror(errno))};
}

}  // namespace

Result<std::unique_ptr<SocketPairs>> SocketPairs::create(FaultHandler on_fault) {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return no_descriptor("epoll");
  UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return no_descriptor("eventfd");
  epoll_event awaited{};
  awaited.events = EPOLLIN;
  awaited.data.fd = event.get();
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, event.get(), &awaited) != 0) return no_descriptor("epoll");
  return std::unique_ptr<SocketPairs>(new SocketPairs(std::move(epoll), std::move(event), std::move(on_fault)));
}

SocketPairs::SocketPairs(UniqueFd epoll, UniqueFd event, FaultHandler on_fault)
    : sleeper_(std::move(epoll), std::move(event)), on_fault_(std::move(on_fault)) {}

SocketPairs::~SocketPairs() = default;

void SocketPairs::add(MemberId peer, std::unique_ptr<Link> link) {
  remove(peer);
  links_[peer] = std::move(link);
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
  if (link == nullptr) return false;
  const bool sent = link->send(tag, data, moves_);
  if (!sent && !link->complained_of) [[unlikely]]
    complain(to, link->fault());
  return sent;
}

Result<bool> SocketPairs::try_receive(Rank from, const Tag& tag, std::span<std::byte> data) {
  Link* link = link_to(from);
  if (link == nullptr) return false;
  auto received = link->receive(tag, data, moves_);
  if (received.ok() && received.value()) return received;
  if (!link->complained_of) complain(from, received.ok() ? link->fault() : std::string(received.status().message()));
  if (link->malformed()) {
    std::erase_if(links_, [&](const auto& entry) {
      if (entry.second.get() != link) return false;
      close(*link);
      return true;
    });
  }
  return received;
}

void SocketPairs::complain(Rank peer, const std::optional<std::string>& fault) {
  if (!fault) return;
  Link* const link = link_to(peer);
  link->complained_of = true;
  const auto found = std::ranges::find_if(links_, [&](const auto& entry) { return entry.second.get() == link; });
  if (on_fault_) on_fault_(found->first, *fault);
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
