#include "transports/control/reception.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/socket_address.h"

namespace hora::control {
namespace {

// A stranger that connects and says nothing is dropped after this long. One of ours that was merely slow dials again.
constexpr Duration kHandshakeTime = std::chrono::seconds(5);
constexpr Duration kListenAgainTime = std::chrono::milliseconds(100);
constexpr std::size_t kStrangersMax = 64;
constexpr std::size_t kAssembliesMax = 256;

}  // namespace

Reception::Reception(const Identity& identity, const std::vector<UniqueFd>& listeners, const Terms& terms,
                     const Clock& clock, const Log& log)
    : identity_(identity),
      listeners_(listeners),
      terms_(terms),
      clock_(clock),
      log_(log),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      next_key_(listeners.size()) {}

Result<std::unique_ptr<Reception>> Reception::open(const Identity& identity, const std::vector<UniqueFd>& listeners,
                                                   const Terms& terms, const Clock& clock, const Log& log) {
  std::unique_ptr<Reception> reception(new Reception(identity, listeners, terms, clock, log));
  if (!reception->epoll_) return system_error("epoll_create1", errno);
  reception->set_listening(true);
  return reception;
}

Status Reception::watch(int operation, int fd, Key key) const {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = key;
  if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) return system_error("epoll_ctl", errno);
  return {};
}

// Who is not accepted waits in the listener's backlog.
void Reception::set_listening(bool listening) {
  if (std::exchange(listening_, listening) == listening) return;
  for (std::size_t i = 0; i < listeners_.size(); ++i)
    if (const Status status = watch(listening ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listeners_[i].get(), i); !status.ok())
      log_(LogLevel::error, "control", "cannot watch for newcomers: {}", status.message());
}

TimePoint Reception::next_timer() const {
  TimePoint next = listen_again_;
  for (const auto& [key, pending] : pending_)
    if (!pending.waits) next = std::min(next, pending.expires);
  for (const auto& [member, assembly] : assemblies_) next = std::min(next, assembly.expires);
  return next;
}

void Reception::advance() {
  const TimePoint now = clock_.now();
  drop_expired(now);
  std::array<epoll_event, 64> events;
  const int found = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), 0);
  for (int i = 0; i < found; ++i) {
    const Key key = events[static_cast<std::size_t>(i)].data.u64;
    if (key < listeners_.size())
      accept_waiting(key, now);
    else
      serve(key, now);
  }
  if (listen_again_ == TimePoint::max() || now >= listen_again_) {
    listen_again_ = TimePoint::max();
    set_listening(pending_.size() < terms_.expected + kStrangersMax);
  }
}

void Reception::accept_waiting(std::size_t listener, TimePoint now) {
  while (pending_.size() < terms_.expected + kStrangersMax) {
    auto socket = accept_from(listeners_[listener]);
    if (socket.ok()) {
      admit(std::move(*socket), now);
      continue;
    }
    if (socket.status().code() != StatusCode::try_again) {
      log_(LogLevel::error, "control", "{}", socket.status().message());
      listen_again_ = now + kListenAgainTime;
      set_listening(false);
    }
    return;
  }
}

void Reception::admit(UniqueFd socket, TimePoint now) {
  const pid_t pid = peer_pid(socket);
  // Opened before the peer's first message is read: whoever finishes the handshake was alive after this, so the number
  // has not passed to another process.
  UniqueFd pidfd(pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1);
  const int segment = is_local(socket) ? terms_.own_segment : -1;
  const int fd = socket.get();
  HandshakingSocket handshake(std::move(socket), Handshake::Role::listener, {"control", identity_.job, identity_.id},
                              identity_.secret, segment);
  if (const Status status = watch(EPOLL_CTL_ADD, fd, next_key_); !status.ok()) {
    log_(LogLevel::error, "control", "{}", status.message());
    return;
  }
  pending_.emplace(next_key_++, Pending{std::move(handshake), pid, std::move(pidfd), now + kHandshakeTime});
}

void Reception::serve(Key key, TimePoint now) {
  const auto found = pending_.find(key);
  if (found == pending_.end()) return;  // dropped in this round
  Pending& pending = found->second;
  // Who waits for our welcome has nothing to say: it is gone, or not one of ours.
  Status status =
      pending.waits ? Status(StatusCode::peer_failed, "it gave up before it was welcome") : pending.socket.advance();
  if (status.ok()) status = conclude(key, pending, now);
  if (status.ok() || status.code() == StatusCode::try_again) return;
  log_(LogLevel::warn, "control", "refused a connection of process {}: {}", pending.pid, status.message());
  drop(key);
}

// The other end is proven. An error refuses it; ok: its connection is taken, or waits for others.
Status Reception::conclude(Key key, Pending& pending, TimePoint now) {
  const HandshakeIdentity peer = pending.socket.peer();
  const bool linked = has_arrived(peer.member) || (linked_ && linked_(peer.member));
  Status refusal;
  if (peer.member == identity_.id) {
    refusal = {StatusCode::mismatch, "a member does not connect to itself"};
  } else if (peer.purpose == "state" && !linked) {
    refusal = {StatusCode::mismatch, fmt::format("member {:016x} is not linked", peer.member.value)};
  } else if (peer.purpose != "state" && linked) {
    refusal = {StatusCode::mismatch, fmt::format("member {:016x} is connected already, or was", peer.member.value)};
  } else if (peer.purpose == "data" && peer.index >= terms_.data_sockets) {
    refusal = {StatusCode::mismatch, fmt::format("data connection {} of {}", peer.index, terms_.data_sockets)};
  } else if (peer.purpose == "control" && pending.pid > 0 && !pending.pidfd) {
    refusal = {StatusCode::resource, fmt::format("no descriptor for process {}", pending.pid)};
  }
  if (!refusal.ok()) return pending.socket.refuse(refusal), refusal;

  if (peer.purpose == "state") {
    Arrival stream{{}, true};
    stream.connection.link.id = peer.member;
    stream.connection.socket = take(key).socket;
    arrivals_.push_back(std::move(stream));
    return {};
  }
  auto assembly = assembly_of(pending, now);
  if (!assembly.ok()) return pending.socket.refuse(assembly.status()), assembly.status();
  if (peer.purpose == "data") {
    assembly.value()->data[peer.index] = take(key).socket;
  } else {
    assembly.value()->control = key;
    pending.waits = true;
  }
  complete(peer.member, **assembly);
  return {};
}

// Welcomes the other end.
EstablishedSocket Reception::take(Key key) {
  EstablishedSocket established = pending_.at(key).socket.take();
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, established.socket.get(), nullptr);
  pending_.erase(key);
  return established;
}

// Where a member dials again, what came of its earlier attempt is dropped.
Result<Reception::Assembly*> Reception::assembly_of(const Pending& pending, TimePoint now) {
  const HandshakeIdentity& peer = pending.socket.peer();
  auto found = assemblies_.find(peer.member);
  if (found != assemblies_.end() && found->second.number != peer.link) {
    drop_assembly(found);
    found = assemblies_.end();
  }
  if (found == assemblies_.end()) {
    if (assemblies_.size() >= kAssembliesMax) return Status(StatusCode::resource, "too many members connect at once");
    found = assemblies_.emplace(peer.member, Assembly{}).first;
    found->second.number = peer.link;
    found->second.data.resize(terms_.data_sockets);
  }
  Assembly& assembly = found->second;
  if (peer.purpose == "data" ? static_cast<bool>(assembly.data[peer.index]) : assembly.control.has_value())
    return Status(StatusCode::mismatch, fmt::format("a {} connection of the link came twice", peer.purpose));
  assembly.expires = now + kHandshakeTime;
  return &assembly;
}

void Reception::complete(MemberId member, Assembly& assembly) {
  const bool whole = std::all_of(assembly.data.begin(), assembly.data.end(),
                                 [](const UniqueFd& socket) { return static_cast<bool>(socket); });
  if (!assembly.control || !whole) return;
  Pending& pending = pending_.at(*assembly.control);
  PeerLink link{member, pending.pid, std::move(pending.pidfd), UniqueFd(), std::move(assembly.data)};
  EstablishedSocket control = take(*assembly.control);
  link.segment = std::move(control.passed_fd);
  arrivals_.push_back({{std::move(link), std::move(control.socket)}, false});
  assemblies_.erase(member);
}

bool Reception::has_arrived(MemberId member) const {
  return std::any_of(arrivals_.begin(), arrivals_.end(), [&](const Arrival& arrival) {
    return !arrival.is_stream && arrival.connection.link.id == member;
  });
}

std::optional<Arrival> Reception::take_arrival() {
  if (arrivals_.empty()) return std::nullopt;
  Arrival first = std::move(arrivals_.front());
  arrivals_.pop_front();
  return first;
}

std::optional<Connection> Reception::take_link(MemberId member) {
  for (auto arrival = arrivals_.begin(); arrival != arrivals_.end(); ++arrival) {
    if (arrival->is_stream || arrival->connection.link.id != member) continue;
    Connection taken = std::move(arrival->connection);
    arrivals_.erase(arrival);
    return taken;
  }
  return std::nullopt;
}

void Reception::drop(Key key) {
  const auto found = pending_.find(key);
  if (found == pending_.end()) return;
  const bool waited = found->second.waits;
  const MemberId member = found->second.socket.peer().member;
  pending_.erase(found);
  if (!waited) return;
  if (const auto assembly = assemblies_.find(member); assembly != assemblies_.end()) assemblies_.erase(assembly);
}

void Reception::drop_assembly(std::map<MemberId, Assembly>::iterator assembly) {
  if (assembly->second.control) pending_.erase(*assembly->second.control);
  assemblies_.erase(assembly);
}

void Reception::drop_expired(TimePoint now) {
  std::erase_if(pending_, [&](const auto& entry) {
    const Pending& pending = entry.second;
    if (pending.expires > now || pending.waits) return false;
    log_(LogLevel::warn, "control", "dropped a connection of process {}: it did not finish its handshake", pending.pid);
    return true;
  });
  for (auto assembly = assemblies_.begin(); assembly != assemblies_.end();) {
    const auto next = std::next(assembly);
    if (assembly->second.expires <= now) {
      log_(LogLevel::warn, "control", "dropped what had come of the link of {:016x}: the rest did not follow",
           assembly->first.value);
      drop_assembly(assembly);
    }
    assembly = next;
  }
}

}  // namespace hora::control
