#include "elastic/store/store_server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/futex.h"
#include "base/socket_address.h"
#include "base/thread.h"

namespace hora::store {
namespace {

constexpr Duration kHandshakeTime = std::chrono::seconds(5);
constexpr std::size_t kContentBytesMax = std::size_t{256} << 20;
constexpr std::size_t kSessionsMax = 16'384;
constexpr std::size_t kStrangersMax = 256;                             // clients that are not proven yet, at once
constexpr Duration kListenAgainTime = std::chrono::milliseconds(100);  // after the system ran out of descriptors

}  // namespace

StoreServer::StoreServer(ServerConfig config, const Clock& clock, const Log& log)
    : config_(std::move(config)), clock_(clock), log_(log), map_(kContentBytesMax) {}

Result<std::unique_ptr<StoreServer>> StoreServer::start(ServerConfig config, const Clock& clock, const Log& log) {
  std::unique_ptr<StoreServer> server(new StoreServer(std::move(config), clock, log));
  auto listener = listen_at(server->config_.address);
  if (!listener.ok()) return listener.status();
  auto address = address_of(*listener, server->config_.address);
  if (!address.ok()) return address.status();
  server->listener_ = std::move(*listener);
  server->address_ = std::move(*address);
  server->stop_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!server->stop_) return system_error("eventfd", errno);
  server->thread_ = start_thread("hora-store", [raw = server.get()] { raw->run(); });
  return server;
}

StoreServer::~StoreServer() {
  if (!thread_.joinable()) return;
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void StoreServer::run() {
  std::vector<pollfd> polled;
  std::vector<ConnectionId> ids;
  for (;;) {
    polled.assign({{stop_.get(), POLLIN, 0}, {listener_.get(), POLLIN, 0}});
    if (!has_room(clock_.now())) polled[1].events = 0;
    ids.clear();
    for (const auto& [id, session] : sessions_) {
      polled.push_back({session.fd(), static_cast<short>(session.writer.pending() ? POLLIN | POLLOUT : POLLIN), 0});
      ids.push_back(id);
    }
    if (::poll(polled.data(), polled.size(), timeout_ms(clock_.now())) < 0 && errno != EINTR)
      log_(LogLevel::error, "store", "{}", system_error("poll", errno).message());
    if (polled[0].revents != 0) return;
    for (std::size_t i = 0; i < ids.size(); ++i)
      if (polled[i + 2].revents != 0) serve_ready(ids[i], polled[i + 2].revents);
    const TimePoint now = clock_.now();
    if (polled[1].revents != 0) accept_waiting(now);
    drop_expired(now);
    const auto connected = static_cast<std::uint32_t>(sessions_.size());
    if (connected_.exchange(connected, std::memory_order_seq_cst) != connected) futex_wake_all(connected_);
  }
}

void StoreServer::await_departures(Duration longest) const {
  const TimePoint deadline = clock_.now() + longest;
  for (TimePoint now = clock_.now(); now < deadline; now = clock_.now()) {
    const std::uint32_t connected = connected_.load(std::memory_order_seq_cst);
    if (connected == 0) return;
    futex_wait(connected_, connected, deadline - now);
  }
}

bool StoreServer::has_room(TimePoint now) const {
  const auto strangers = std::ranges::count_if(sessions_, [](const auto& entry) { return !!entry.second.handshake; });
  return now >= listen_again_ && sessions_.size() < kSessionsMax && static_cast<std::size_t>(strangers) < kStrangersMax;
}

int StoreServer::timeout_ms(TimePoint now) const {
  TimePoint next = listen_again_ > now ? listen_again_ : TimePoint::max();
  for (const auto& [id, session] : sessions_)
    if (session.handshake) next = std::min(next, session.expires);
  if (next == TimePoint::max()) return -1;
  const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - now).count();
  return static_cast<int>(std::clamp<std::int64_t>(wait, 0, 60'000));
}

void StoreServer::accept_waiting(TimePoint now) {
  while (has_room(now)) {
    auto socket = accept_from(listener_);
    if (!socket.ok()) {
      if (socket.status().code() == StatusCode::try_again) return;
      log_(LogLevel::error, "store", "{}", socket.status().message());
      listen_again_ = now + kListenAgainTime;
      return;
    }
    Session& session = sessions_[next_id_++];
    session.handshake.emplace(std::move(*socket), Handshake::Role::listener,
                              HandshakeIdentity{"store", config_.job, MemberId()}, config_.secret);
    session.expires = now + kHandshakeTime;
  }
}

void StoreServer::serve_ready(ConnectionId id, short events) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;  // an answer to somebody else's request failed and dropped it
  Session& session = found->second;
  if (events & POLLOUT)
    if (const Status status = session.writer.flush(session.fd()); !status.ok()) return drop(id, status);
  if ((events & ~POLLOUT) == 0) return;
  if (const Status status = read(id, session); !status.ok() && status.code() != StatusCode::try_again) drop(id, status);
}

Status StoreServer::read(ConnectionId id, Session& session) {
  if (session.handshake) {
    HORA_TRY(session.handshake->advance());
    session.established = session.handshake->take();
    session.handshake.reset();
  } else {
    HORA_TRY(session.established.reader.fill(session.fd()));
  }
  for (;;) {
    auto frame = session.established.reader.next();
    if (!frame.ok()) return frame.status();
    if (!frame.value()) return {};
    HORA_TRY(handle(id, session, **frame));
  }
}

Status StoreServer::handle(ConnectionId id, Session& session, std::span<const std::byte> frame) {
  if (session.waits) return {StatusCode::invalid_argument, "a second request before the first was answered"};
  Answers answers;
  if (auto request = decode_request(frame); request.ok()) {
    answers = map_.apply(id, std::move(*request));
  } else {
    Reply refusal;
    refusal.status = request.status();
    answers.emplace_back(id, std::move(refusal));
  }
  session.waits = true;
  Status own;
  for (const auto& [to, reply] : answers) {
    const auto found = sessions_.find(to);
    if (found == sessions_.end()) continue;
    found->second.waits = false;
    const Status status = found->second.writer.send(found->second.fd(), encode(reply));
    if (status.ok()) continue;
    if (to == id)
      own = status;
    else
      drop(to, status);
  }
  return own;
}

void StoreServer::drop(ConnectionId id, const Status& why) {
  const auto found = sessions_.find(id);
  const bool stranger = found->second.handshake.has_value();
  log_(stranger ? LogLevel::warn : LogLevel::debug, "store", "dropped a connection: {}", why.message());
  map_.forget(id);
  sessions_.erase(found);
}

void StoreServer::drop_expired(TimePoint now) {
  std::vector<ConnectionId> expired;
  for (const auto& [id, session] : sessions_)
    if (session.handshake && session.expires <= now) expired.push_back(id);
  for (const ConnectionId id : expired) drop(id, {StatusCode::timed_out, "it did not finish its handshake"});
}

}  // namespace hora::store
