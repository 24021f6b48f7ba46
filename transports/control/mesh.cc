#include "transports/control/mesh.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/socket_address.h"

namespace hora::control {
namespace {

// One link with much to say does not keep the others waiting: the rest is read in the next round.
constexpr int kReadsPerRound = 16;

Status check_one_host(const View& view, Rank self) {
  const auto own = view.members[static_cast<std::size_t>(self.value)].host;
  for (std::size_t rank = 0; rank < view.members.size(); ++rank)
    if (view.members[rank].host != own)
      return {StatusCode::unsupported,
              fmt::format("ranks {} and {} cannot share memory: they run on different hosts or in different namespaces",
                          self.value, rank)};
  return {};
}

}  // namespace

Mesh::Mesh(Identity identity, const Clock& clock, const Log& log)
    : identity_(std::move(identity)), clock_(clock), log_(log), owner_(::getpid()) {}

Mesh::~Mesh() {
  if (::getpid() != owner_) return;
  for (const auto& link : links_)
    if (link->socket) ::shutdown(link->socket.get(), SHUT_RDWR);
}

Result<std::unique_ptr<Mesh>> Mesh::listen(Identity identity, const Clock& clock, const Log& log) {
  std::unique_ptr<Mesh> mesh(new Mesh(std::move(identity), clock, log));
  HORA_TRY(mesh->open());
  return mesh;
}

Status Mesh::open() {
  address_ = fmt::format("unix:@hora-{:016x}", identity_.id.value);
  auto listener = listen_at(address_);
  if (!listener.ok()) return listener.status();
  listener_ = std::move(*listener);
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return system_error("epoll_create1", errno);
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_) return system_error("eventfd", errno);
  return control_epoll(EPOLL_CTL_ADD, wake_.get(), EPOLLIN, Source::wake, 0);
}

Result<std::vector<PeerLink>> Mesh::connect_all(const View& view, Rank self, int own_segment, TimePoint deadline) {
  HORA_TRY(check_one_host(view, self));
  Connector connector(identity_, listener_, view, self, own_segment, clock_, log_);
  auto connections = connector.run(deadline);
  if (!connections.ok()) return connections.status();
  listener_.reset();
  std::vector<PeerLink> peers;
  for (Connection& connection : *connections) {
    auto peer = adopt(std::move(connection));
    if (!peer.ok()) return peer.status();
    peers.push_back(std::move(*peer));
  }
  return peers;
}

Result<PeerLink> Mesh::adopt(Connection connection) {
  auto link = std::make_unique<Link>();
  link->peer = connection.link.id;
  link->socket = std::move(connection.socket);
  link->reader = std::move(connection.reader);
  link->index = static_cast<std::uint32_t>(links_.size());
  HORA_TRY(control_epoll(EPOLL_CTL_ADD, link->socket.get(), EPOLLIN, Source::link, link->index));
  links_.push_back(std::move(link));
  return std::move(connection.link);
}

Status Mesh::control_epoll(int operation, int fd, std::uint32_t events, Source source, std::uint32_t index) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = static_cast<std::uint64_t>(source) << 32 | index;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) return system_error("epoll_ctl", errno);
  return {};
}

void Mesh::set_awaits_output(Link& link, bool awaits) {
  if (link.awaits_output == awaits) return;
  link.awaits_output = awaits;
  const std::uint32_t events = awaits ? EPOLLIN | EPOLLOUT : EPOLLIN;
  const Status status = control_epoll(EPOLL_CTL_MOD, link.socket.get(), events, Source::link, link.index);
  if (!status.ok()) log_(LogLevel::error, "control", "{}", status.message());
}

Status Mesh::send(MemberId to, std::span<const std::byte> message) {
  const auto found = std::find_if(links_.begin(), links_.end(), [&](const auto& link) { return link->peer == to; });
  if (found == links_.end()) return {};
  Link& link = **found;
  const MutexLock lock(link.mutex);
  if (link.broken) return {};
  const Status status = link.writer.send(link.socket.get(), message);
  if (status.ok()) {
    if (link.writer.pending()) set_awaits_output(link, true);
    return {};
  }
  // The loop reads the end of the stream, after what the peer still said, and takes the link down.
  link.broken = true;
  ::shutdown(link.socket.get(), SHUT_RDWR);
  return status.code() == StatusCode::resource ? status : Status();
}

void Mesh::run_once(std::optional<TimePoint> deadline, LoopHandler& handler) {
  const bool first = std::exchange(first_round_, false);
  if (first)
    for (const auto& link : links_)
      if (const Status status = deliver_frames(*link, handler); !status.ok()) take_down(*link, status, handler);

  int timeout = -1;
  if (first) {
    timeout = 0;
  } else if (deadline) {
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(*deadline - clock_.now()).count();
    timeout = static_cast<int>(std::clamp<std::int64_t>(wait, 0, 3'600'000));
  }
  std::array<epoll_event, 64> events;
  const int found = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
  for (int i = 0; i < found; ++i) {
    const epoll_event& event = events[static_cast<std::size_t>(i)];
    const auto index = static_cast<std::uint32_t>(event.data.u64);
    switch (static_cast<Source>(event.data.u64 >> 32)) {
      case Source::wake: {
        std::uint64_t count;
        [[maybe_unused]] const auto bytes = ::read(wake_.get(), &count, sizeof count);
        break;
      }
      case Source::descriptor:
        // An earlier event of this round may have unwatched it.
        if (watched_.contains(static_cast<int>(index))) handler.on_readable(static_cast<int>(index));
        break;
      case Source::link:
        if (event.events & EPOLLOUT) flush(*links_[index]);
        if (event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) deliver_readable(*links_[index], handler);
        break;
    }
  }
}

void Mesh::flush(Link& link) {
  const MutexLock lock(link.mutex);
  if (link.broken) return;
  if (!link.writer.flush(link.socket.get()).ok()) {
    link.broken = true;
    ::shutdown(link.socket.get(), SHUT_RDWR);
  }
  if (!link.writer.pending()) set_awaits_output(link, false);
}

void Mesh::deliver_readable(Link& link, LoopHandler& handler) {
  for (int i = 0; i < kReadsPerRound && !link.down; ++i) {
    Status status = link.reader.fill(link.socket.get());
    if (status.code() == StatusCode::try_again) return;
    if (status.ok()) status = deliver_frames(link, handler);
    if (!status.ok()) take_down(link, status, handler);
  }
}

Status Mesh::deliver_frames(Link& link, LoopHandler& handler) {
  for (;;) {
    auto frame = link.reader.next();
    if (!frame.ok()) return frame.status();
    if (!frame.value()) return {};
    handler.on_message(link.peer, **frame);
  }
}

void Mesh::take_down(Link& link, const Status& why, LoopHandler& handler) {
  {
    const MutexLock lock(link.mutex);
    link.broken = true;
    // Also when a forked child of ours holds the socket: the peer must see the end.
    ::shutdown(link.socket.get(), SHUT_RDWR);
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, link.socket.get(), nullptr);
    link.socket.reset();
  }
  link.down = true;
  log_(LogLevel::info, "control", "link to {:016x} is down: {}", link.peer.value, why.message());
  handler.on_link_down(link.peer);
}

Status Mesh::watch(int fd) {
  HORA_TRY(control_epoll(EPOLL_CTL_ADD, fd, EPOLLIN, Source::descriptor, static_cast<std::uint32_t>(fd)));
  watched_.insert(fd);
  return {};
}

void Mesh::unwatch(int fd) {
  if (watched_.erase(fd) > 0) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Mesh::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(wake_.get(), &one, sizeof one);
}

}  // namespace hora::control
