#include "transports/control/connector.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>

#include <algorithm>
#include <utility>

#include "base/socket_address.h"

namespace hora::control {
namespace {

using std::chrono::milliseconds;

// A stranger that connects and says nothing is dropped after this long. One of ours that was merely slow dials again.
constexpr Duration kHandshakeTime = std::chrono::seconds(5);
constexpr Duration kRedialTime = milliseconds(10);
constexpr std::size_t kStrangersMax = 1024;

}  // namespace

Connector::Connector(const Identity& identity, const UniqueFd& listener, const View& view, Rank self, int own_segment,
                     const Clock& clock, const Log& log)
    : identity_(identity),
      listener_(listener),
      view_(view),
      self_(static_cast<std::size_t>(self.value)),
      own_segment_(own_segment),
      clock_(clock),
      log_(log),
      connections_(view.members.size()),
      dial_at_(view.members.size()) {}

Result<std::vector<Connection>> Connector::run(TimePoint deadline) {
  deadline_ = deadline;
  const TimePoint began = clock_.now();
  for (;;) {
    const TimePoint now = clock_.now();
    drop_expired(now);
    HORA_TRY(dial_lower_ranks(now));
    const std::string absent = missing();
    if (absent.empty()) break;
    if (now >= deadline)
      return Status(StatusCode::timed_out,
                    fmt::format("{} did not connect within {} ms (HORA_START_TIMEOUT_MS)", absent,
                                std::chrono::ceil<milliseconds>(deadline - began).count()));
    poll_until(next_timer());
    HORA_TRY(advance_ready(clock_.now()));
    if (someone_waits_) HORA_TRY(accept_waiting(clock_.now()));
  }
  std::vector<Connection> made;
  for (auto& connection : connections_)
    if (connection) made.push_back(std::move(*connection));
  return made;
}

Status Connector::dial_lower_ranks(TimePoint now) {
  for (std::size_t rank = 0; rank < self_; ++rank) {
    if (connections_[rank] || dial_at_[rank] > now) continue;
    auto socket = dial(view_.members[rank].address);
    if (socket.ok()) {
      dial_at_[rank] = TimePoint::max();
      start(std::move(*socket), rank, deadline_);
    } else if (socket.status().code() == StatusCode::try_again) {
      dial_at_[rank] = now + kRedialTime;
    } else {
      return {socket.status().code(), fmt::format("rank {}: {}", rank, socket.status().message())};
    }
  }
  return {};
}

Status Connector::accept_waiting(TimePoint now) {
  while (pending_.size() < view_.members.size() + kStrangersMax) {
    auto socket = accept_from(listener_);
    if (socket.ok()) {
      start(std::move(*socket), std::nullopt, now + kHandshakeTime);
    } else if (socket.status().code() == StatusCode::try_again) {
      return {};
    } else {
      return socket.status();
    }
  }
  return {};
}

void Connector::start(UniqueFd socket, std::optional<std::size_t> dialed, TimePoint expires) {
  PeerLink link;
  link.pid = peer_pid(socket);
  // Opened before the peer's first answer is read: whoever finishes the handshake was alive after this, so the number
  // has not passed to another process.
  if (link.pid > 0) link.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, link.pid, 0)));
  const auto role = dialed ? Handshake::Role::dialer : Handshake::Role::listener;
  HandshakeIdentity self{"control", identity_.job, identity_.id, view_.epoch};
  pending_.push_back({HandshakingSocket(std::move(socket), role, std::move(self), identity_.secret, own_segment_),
                      dialed, std::move(link), expires});
}

void Connector::poll_until(TimePoint until) {
  std::vector<pollfd> polled;
  for (const Pending& pending : pending_) polled.push_back({pending.socket.fd(), pending.socket.poll_events(), 0});
  polled.push_back({listener_.get(), POLLIN, 0});
  const auto wait = std::chrono::ceil<milliseconds>(until - clock_.now()).count();
  const int found = ::poll(polled.data(), polled.size(), static_cast<int>(std::clamp<std::int64_t>(wait, 0, 60'000)));
  ready_.assign(pending_.size(), false);
  for (std::size_t i = 0; i < pending_.size(); ++i) ready_[i] = found > 0 && polled[i].revents != 0;
  someone_waits_ = found > 0 && polled.back().revents != 0;
}

Status Connector::advance_ready(TimePoint now) {
  std::vector<Pending> left;
  for (std::size_t i = 0; i < pending_.size(); ++i) {
    Pending& pending = pending_[i];
    Status status = ready_[i] ? pending.socket.advance() : Status(StatusCode::try_again, "");
    if (status.ok()) status = conclude(pending);
    if (status.code() == StatusCode::try_again) {
      left.push_back(std::move(pending));
    } else if (!status.ok() && pending.dialed && status.code() == StatusCode::peer_failed) {
      dial_at_[*pending.dialed] = now + kRedialTime;
    } else if (!status.ok() && pending.dialed) {
      return {status.code(), fmt::format("rank {}: {}", *pending.dialed, status.message())};
    } else if (!status.ok()) {
      log_(LogLevel::warn, "control", "refused a connection of process {}: {}", pending.link.pid, status.message());
    }
  }
  pending_ = std::move(left);
  return {};
}

Status Connector::conclude(Pending& pending) {
  const auto rank = admit(pending);
  if (!rank.ok()) {
    pending.socket.refuse(rank.status());
    return rank.status();
  }
  EstablishedSocket established = pending.socket.take();
  pending.link.id = established.peer.member;
  pending.link.segment = std::move(established.passed_fd);
  connections_[rank.value()] =
      Connection{std::move(pending.link), std::move(established.socket), std::move(established.reader)};
  return {};
}

Result<std::size_t> Connector::admit(const Pending& pending) const {
  const MemberId id = pending.socket.peer().member;
  const auto rank = view_.rank_of(id);
  if (!rank) return Status(StatusCode::mismatch, fmt::format("{:016x} is not a member of this view", id.value));
  const auto index = static_cast<std::size_t>(rank->value);
  if (pending.dialed ? index != *pending.dialed : index <= self_)
    return Status(StatusCode::mismatch, fmt::format("rank {} is not expected on this connection", index));
  if (connections_[index]) return Status(StatusCode::mismatch, fmt::format("rank {} is connected already", index));
  if (pending.link.pid > 0 && !pending.link.pidfd)
    return Status(StatusCode::resource,
                  fmt::format("no descriptor for process {} of rank {}", pending.link.pid, index));
  return index;
}

void Connector::drop_expired(TimePoint now) {
  std::erase_if(pending_, [&](Pending& pending) {
    if (pending.expires > now || pending.dialed) return false;
    log_(LogLevel::warn, "control", "dropped a connection of process {}: it did not finish its handshake",
         pending.link.pid);
    return true;
  });
}

TimePoint Connector::next_timer() const {
  TimePoint next = deadline_;
  for (const Pending& pending : pending_) next = std::min(next, pending.expires);
  for (std::size_t rank = 0; rank < self_; ++rank)
    if (!connections_[rank]) next = std::min(next, dial_at_[rank]);
  return next;
}

std::string Connector::missing() const {
  std::vector<std::size_t> ranks;
  for (std::size_t rank = 0; rank < connections_.size(); ++rank)
    if (rank != self_ && !connections_[rank]) ranks.push_back(rank);
  if (ranks.empty()) return {};
  return fmt::format("rank{} {}", ranks.size() > 1 ? "s" : "", fmt::join(ranks, ", "));
}

}  // namespace hora::control
