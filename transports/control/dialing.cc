#include "transports/control/dialing.h"

#include <fmt/format.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/entropy.h"
#include "base/socket_address.h"

namespace hora::control {
namespace {

using std::chrono::milliseconds;

constexpr Duration kRedialTime = milliseconds(10);

// Its listener may outlive it in a forked child, where nobody accepts.
Status ended() {
  return {StatusCode::peer_failed, "the process that listened there has ended"};
}

}  // namespace

Result<Dialing> Dialing::of_link(const Identity& identity, const Member& peer, bool same_host, int own_segment,
                                 const AgreedConfig& config) {
  Dialing dialing(identity, peer);
  HORA_TRY(dialing.add("control", 0, same_host, same_host ? own_segment : -1));
  const bool local_data = same_host && config.transport != Transport::tcp;
  for (std::uint32_t index = 0; index < data_sockets_of(config); ++index)
    HORA_TRY(dialing.add("data", index, local_data, -1));
  return dialing;
}

Result<Dialing> Dialing::of_stream(const Identity& identity, const Member& peer, bool same_host) {
  Dialing dialing(identity, peer);
  HORA_TRY(dialing.add("state", 0, same_host, -1));
  return dialing;
}

Status Dialing::add(std::string purpose, std::uint32_t index, bool local, int passed_segment) {
  if (!local && peer_.address.empty())
    return {StatusCode::unsupported,
            fmt::format("member {:016x} listens on no TCP address: HORA_STORE is a Unix socket there, and "
                        "HORA_TRANSPORT is not tcp",
                        peer_.id.value)};
  pieces_.push_back({std::move(purpose), index, local ? local_address_of(peer_.id) : peer_.address, passed_segment,
                     std::nullopt, TimePoint(), false});
  return {};
}

Status Dialing::advance(TimePoint now) {
  if (number_ == 0) number_ = entropy64() | 1;
  for (Piece& piece : pieces_)
    if (!piece.socket && piece.dial_at <= now) HORA_TRY(dial(piece, now));
  pollfd process{pidfd_.get(), POLLIN, 0};
  if (::poll(&process, 1, 0) > 0) return ended();

  bool all_done = true;
  for (Piece& piece : pieces_) {
    if (piece.done) continue;
    Status status(StatusCode::try_again, "");
    if (piece.socket) {
      pollfd polled{piece.socket->fd(), piece.socket->poll_events(), 0};
      if (::poll(&polled, 1, 0) > 0) status = piece.socket->advance();
    }
    if (status.code() == StatusCode::peer_failed && !piece.socket->nobody_listens()) {
      // Among others it was too slow to answer in the other end's time.
      start_again(now + kRedialTime);
      return {StatusCode::try_again, ""};
    }
    piece.done = status.ok();
    if (status.code() == StatusCode::try_again)
      all_done = false;
    else if (!status.ok())
      return explain(piece, status);
  }
  return all_done ? Status() : Status(StatusCode::try_again, "");
}

Status Dialing::dial(Piece& piece, TimePoint now) {
  auto socket = hora::dial(piece.address);
  if (socket.status().code() == StatusCode::try_again) {
    piece.dial_at = now + kRedialTime;
    return {};
  }
  if (!socket.ok()) return socket.status();
  if (piece.purpose == "control") {
    pid_ = peer_pid(*socket);
    // Opened before the peer's first answer is read: whoever finishes the handshake was alive after this, so the number
    // has not passed to another process.
    pidfd_.reset(pid_ > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)) : -1);
    if (pid_ > 0 && !pidfd_) return errno == ESRCH ? ended() : system_error("pidfd_open", errno);
  }
  HandshakeIdentity self{piece.purpose, identity_->job, identity_->id, number_, piece.index};
  self.expected = peer_.id;
  piece.socket.emplace(std::move(*socket), Handshake::Role::dialer, std::move(self), identity_->secret,
                       piece.passed_segment);
  return {};
}

Status Dialing::explain(const Piece& piece, const Status& status) const {
  const MemberId met = piece.socket->peer().member;
  if (met == MemberId() || met == peer_.id) return status;
  return {StatusCode::peer_failed, fmt::format("{} has become the address of another member", piece.address)};
}

void Dialing::start_again(TimePoint at) {
  number_ = 0;
  for (Piece& piece : pieces_) {
    piece.socket.reset();
    piece.dial_at = at;
    piece.done = false;
  }
}

void Dialing::add_polled(std::vector<pollfd>& polled) const {
  for (const Piece& piece : pieces_)
    if (piece.socket && !piece.done) polled.push_back({piece.socket->fd(), piece.socket->poll_events(), 0});
  polled.push_back({pidfd_.get(), POLLIN, 0});
}

TimePoint Dialing::next_timer() const {
  TimePoint next = TimePoint::max();
  for (const Piece& piece : pieces_)
    if (!piece.socket) next = std::min(next, piece.dial_at);
  return next;
}

Status Dialing::run(const Clock& clock, TimePoint deadline, const UniqueFd& cancel) {
  const TimePoint began = clock.now();
  for (;;) {
    const TimePoint now = clock.now();
    const Status status = advance(now);
    if (status.code() != StatusCode::try_again) return status;
    if (now >= deadline)
      return {StatusCode::timed_out, fmt::format("member {:016x} did not answer within {} ms", peer_.id.value,
                                                 std::chrono::ceil<milliseconds>(deadline - began).count())};
    std::vector<pollfd> polled{{cancel.get(), POLLIN, 0}};
    add_polled(polled);
    const auto wait = std::chrono::ceil<milliseconds>(std::min(deadline, next_timer()) - now).count();
    ::poll(polled.data(), polled.size(), static_cast<int>(std::clamp<std::int64_t>(wait, 0, 60'000)));
    if (polled.front().revents != 0) return {StatusCode::shut_down, "this member stops dialing"};
  }
}

Connection Dialing::take_link() {
  Connection connection;
  connection.link.id = peer_.id;
  connection.link.pid = pid_;
  connection.link.pidfd = std::move(pidfd_);
  for (Piece& piece : pieces_) {
    EstablishedSocket established = piece.socket->take();
    if (piece.purpose == "control") {
      connection.link.segment = std::move(established.passed_fd);
      connection.socket = std::move(established.socket);
    } else {
      connection.link.data.push_back(std::move(established.socket));
    }
  }
  return connection;
}

UniqueFd Dialing::take_stream() {
  return std::move(pieces_.front().socket->take().socket);
}

}  // namespace hora::control
