#include "transports/control/mesh.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/socket_address.h"
#include "transports/control/connector.h"
#include "transports/control/dialing.h"

namespace hora::control {
namespace {

// One link with much to say does not keep the others waiting: the rest is read in the next round.
constexpr int kReadsPerRound = 16;

// The kernel gives a control connection up when the other end has not acknowledged for this many times the silence
// after which its member is suspected: by then its expulsion is decided, or there is no quorum.
constexpr int kSilencesUnacknowledged = 2;

// After the system ran out of descriptors.
constexpr Duration kOpenAgainTime = std::chrono::milliseconds(100);

void limit_silence(const UniqueFd& socket, const AgreedConfig& config) {
  if (is_local(socket)) return;
  set_acknowledgement_timeout(socket, std::chrono::milliseconds(config.silence_ms) * kSilencesUnacknowledged);
}

}  // namespace

Mesh::Mesh(Identity identity, const Clock& clock, const Log& log)
    : identity_(std::move(identity)), clock_(clock), log_(log), owner_(::getpid()) {}

Mesh::~Mesh() {
  if (::getpid() == owner_) close();
}

void Mesh::close() noexcept {
  // Also where a forked child holds it: who dials must be refused, not wait.
  for (const UniqueFd& listener : listeners_) ::shutdown(listener.get(), SHUT_RDWR);
  const MutexLock lock(links_mutex_);
  for (const auto& link : links_) {
    const MutexLock link_lock(link->mutex);
    if (link->socket) ::shutdown(link->socket.get(), SHUT_RDWR);
  }
}

Result<std::unique_ptr<Mesh>> Mesh::listen(Identity identity, const TcpAddress& tcp, const Clock& clock,
                                           const Log& log) {
  std::unique_ptr<Mesh> mesh(new Mesh(std::move(identity), clock, log));
  HORA_TRY(mesh->open(tcp));
  return mesh;
}

Status Mesh::open(const TcpAddress& tcp) {
  auto local = listen_at(local_address_of(identity_.id));
  if (!local.ok()) return local.status();
  listeners_.push_back(std::move(*local));
  if (!tcp.host.empty()) {
    auto listener = listen_in_range(tcp.host, tcp.port_first, tcp.port_last);
    if (!listener.ok()) return listener.status();
    auto address = address_of(*listener, tcp_address(tcp.host, 0));
    if (!address.ok()) return address.status();
    address_ = std::move(*address);
    listeners_.push_back(std::move(*listener));
  }
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return system_error("epoll_create1", errno);
  wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  cancel_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_ || !cancel_) return system_error("eventfd", errno);
  return control_epoll(EPOLL_CTL_ADD, wake_.get(), EPOLLIN, Source::wake, 0);
}

Result<std::vector<PeerLink>> Mesh::connect_all(const View& view, Rank self, int own_segment, TimePoint deadline) {
  {
    const MutexLock lock(links_mutex_);
    receives_ = true;
  }
  const std::size_t higher = view.members.size() - static_cast<std::size_t>(self.value) - 1;
  HORA_TRY(open_reception({own_segment, view.config}, higher * (1 + data_sockets_of(view.config))));
  auto connections = Connector(identity_, *reception_, view, self, own_segment, clock_).run(deadline);
  reception_->set_linked([this](MemberId member) { return find(member) != nullptr; });
  if (!connections.ok()) return connections.status();
  std::vector<PeerLink> peers;
  for (Connection& connection : *connections) {
    auto peer = adopt(std::move(connection), config_);
    if (!peer.ok()) return peer.status();
    peers.push_back(std::move(*peer));
  }
  return peers;
}

Status Mesh::open_reception(const Welcome& welcome, std::size_t expected) {
  auto reception = Reception::open(identity_, listeners_,
                                   {welcome.own_segment, data_sockets_of(welcome.config), expected}, clock_, log_);
  if (!reception.ok()) return reception.status();
  (*reception)->set_linked([this](MemberId member) { return find(member) != nullptr; });
  HORA_TRY(control_epoll(EPOLL_CTL_ADD, (*reception)->fd(), EPOLLIN, Source::reception, 0));
  reception_ = std::move(*reception);
  config_ = welcome.config;
  return {};
}

void Mesh::ask_for_reception(const Welcome& welcome) {
  {
    const MutexLock lock(links_mutex_);
    if (receives_) return;
    receives_ = true;
    asked_ = welcome;
  }
  wake();
}

void Mesh::open_reception_if_asked() {
  const bool failed_before = open_again_ != TimePoint::max();
  if (failed_before && clock_.now() < open_again_) return;
  std::optional<Welcome> welcome;
  {
    const MutexLock lock(links_mutex_);
    welcome = asked_;
  }
  if (!welcome) return;
  if (const Status status = open_reception(*welcome, 0); !status.ok()) {
    if (!failed_before) log_(LogLevel::error, "control", "cannot accept newcomers yet: {}", status.message());
    open_again_ = clock_.now() + kOpenAgainTime;
    return;
  }
  open_again_ = TimePoint::max();
  const MutexLock lock(links_mutex_);
  asked_.reset();
}

Result<PeerLink> Mesh::dial(const Member& peer, int own_segment, const AgreedConfig& config, TimePoint deadline) {
  if (peer.id == identity_.id || find(peer.id) != nullptr)
    return Status(StatusCode::invalid_argument, fmt::format("member {:016x} was linked before", peer.id.value));
  ask_for_reception({own_segment, config});
  auto dialing = Dialing::of_link(identity_, peer, peer.host == identity_.host, own_segment, config);
  if (!dialing.ok()) return dialing.status();
  HORA_TRY(dialing->run(clock_, deadline, cancel_));
  return adopt(dialing->take_link(), config);
}

// Only this end has the limit: it says little, so that a full window is no dead host, while the other end may wait long
// for a newcomer that does not read.
Result<UniqueFd> Mesh::open_stream(const Member& peer, const AgreedConfig& config, TimePoint deadline) {
  auto dialing = Dialing::of_stream(identity_, peer, peer.host == identity_.host);
  if (!dialing.ok()) return dialing.status();
  HORA_TRY(dialing->run(clock_, deadline, cancel_));
  UniqueFd stream = dialing->take_stream();
  limit_silence(stream, config);
  return stream;
}

void Mesh::cancel_dials() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(cancel_.get(), &one, sizeof one);
}

Result<PeerLink> Mesh::adopt(Connection connection, const AgreedConfig& config) {
  limit_silence(connection.socket, config);
  auto link = std::make_unique<Link>();
  link->peer = connection.link.id;
  link->socket = std::move(connection.socket);
  const MutexLock lock(links_mutex_);
  for (const auto& other : links_)
    if (other->peer == link->peer)
      return Status(StatusCode::invalid_argument, fmt::format("member {:016x} was linked before", link->peer.value));
  link->index = static_cast<std::uint32_t>(links_.size());
  // The loop finds the link by its index once this mutex is free.
  HORA_TRY(control_epoll(EPOLL_CTL_ADD, link->socket.get(), EPOLLIN, Source::link, link->index));
  links_.push_back(std::move(link));
  return std::move(connection.link);
}

Mesh::Link* Mesh::find(MemberId peer) {
  const MutexLock lock(links_mutex_);
  const auto found = std::find_if(links_.begin(), links_.end(), [&](const auto& link) { return link->peer == peer; });
  return found == links_.end() ? nullptr : found->get();
}

Mesh::Link& Mesh::link_at(std::uint32_t index) {
  const MutexLock lock(links_mutex_);
  return *links_[index];
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
  Link* const found = find(to);
  if (found == nullptr) return {};
  Link& link = *found;
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

void Mesh::disconnect(MemberId peer) {
  Link* const link = find(peer);
  if (link == nullptr) return;
  const MutexLock lock(link->mutex);
  if (std::exchange(link->broken, true)) return;
  ::shutdown(link->socket.get(), SHUT_RDWR);
}

int Mesh::timeout_ms(std::optional<TimePoint> deadline) const {
  const TimePoint until =
      std::min(deadline.value_or(TimePoint::max()), reception_ ? reception_->next_timer() : open_again_);
  if (until == TimePoint::max()) return -1;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(until - clock_.now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(wait, 0, 3'600'000));
}

void Mesh::run_once(std::optional<TimePoint> deadline, LoopHandler& handler) {
  open_reception_if_asked();
  // Newcomers that came while the founders connected, and who is late.
  if (reception_ && (reception_->has_arrivals() || reception_->next_timer() <= clock_.now()))
    receive_newcomers(handler);
  const int timeout = timeout_ms(deadline);
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
      case Source::link: {
        Link& link = link_at(index);
        if (event.events & EPOLLOUT) flush(link);
        if (event.events & ~static_cast<std::uint32_t>(EPOLLOUT)) deliver_readable(link, handler);
        break;
      }
      case Source::reception: receive_newcomers(handler); break;
    }
  }
}

void Mesh::receive_newcomers(LoopHandler& handler) {
  reception_->advance();
  while (auto arrival = reception_->take_arrival()) {
    const MemberId id = arrival->connection.link.id;
    if (arrival->is_stream) {
      handler.on_stream(id, std::move(arrival->connection.socket));
      continue;
    }
    auto link = adopt(std::move(arrival->connection), config_);
    if (!link.ok()) {
      log_(LogLevel::error, "control", "lost the link of {:016x}: {}", id.value, link.status().message());
      continue;
    }
    handler.on_link(std::move(*link));
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

std::vector<Mesh::Link*> Mesh::links_with_output() {
  std::vector<Link*> found;
  const MutexLock lock(links_mutex_);
  for (const auto& link : links_) {
    const MutexLock link_lock(link->mutex);
    if (!link->broken && link->writer.pending()) found.push_back(link.get());
  }
  return found;
}

void Mesh::drain(TimePoint deadline) {
  for (auto links = links_with_output(); !links.empty(); links = links_with_output()) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock_.now()).count();
    if (left <= 0) return;
    std::vector<pollfd> awaited;
    for (const Link* link : links) awaited.push_back({link->socket.get(), POLLOUT, 0});
    ::poll(awaited.data(), awaited.size(), static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
    for (Link* link : links) flush(*link);
  }
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
    link.writer = FrameWriter();
  }
  link.down = true;
  link.reader = FrameReader();
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
