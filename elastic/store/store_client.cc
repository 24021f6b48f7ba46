#include "elastic/store/store_client.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/socket_address.h"

namespace hora::store {
namespace {

constexpr Duration kRedialTime = std::chrono::milliseconds(20);
// An address that does not even refuse by then is given up for the next one of the name.
constexpr Duration kConnectTime = std::chrono::seconds(3);
constexpr std::size_t kIdleMax = 4;

Status expired() {
  return {StatusCode::timed_out, "no answer"};
}

}  // namespace

StoreClient::StoreClient(ClientConfig config, const Clock& clock) noexcept
    : config_(std::move(config)), clock_(clock) {}

Status StoreClient::set(std::string_view key, std::string_view value) {
  const auto reply = call({Operation::set, std::string(key), std::string(value), {}, 0}, config_.patience);
  return reply.ok() ? Status() : reply.status();
}

Result<std::optional<std::string>> StoreClient::get(std::string_view key) {
  auto reply = call({Operation::get, std::string(key), {}, {}, 0}, config_.patience);
  if (!reply.ok()) return reply.status();
  return std::move(reply->value);
}

Result<std::string> StoreClient::wait(std::string_view key, Duration timeout) {
  auto reply = call({Operation::wait, std::string(key), {}, {}, 0}, timeout);
  if (!reply.ok()) return reply.status();
  if (!reply->value) return Status(StatusCode::internal, fmt::format("store {}: malformed reply", config_.address));
  return std::move(*reply->value);
}

Result<bool> StoreClient::compare_and_swap(std::string_view key, std::optional<std::string_view> expected,
                                           std::string_view desired) {
  Request request{Operation::compare_and_swap, std::string(key), std::string(desired), {}, 0};
  if (expected) request.expected = std::string(*expected);
  const auto reply = call(request, config_.patience);
  if (!reply.ok()) return reply.status();
  return reply.value().swapped;
}

Result<std::int64_t> StoreClient::add(std::string_view key, std::int64_t amount) {
  const auto reply = call({Operation::add, std::string(key), {}, {}, amount}, config_.patience);
  if (!reply.ok()) return reply.status();
  return reply.value().sum;
}

Result<Reply> StoreClient::call(const Request& request, Duration patience) {
  auto reply = exchange(request, clock_.now() + patience);
  const Status status = reply.ok() ? reply->status : reply.status();
  if (status.ok()) return reply;
  const bool late = status.code() == StatusCode::timed_out;
  const auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(patience).count();
  return Status(status.code() == StatusCode::peer_failed ? StatusCode::resource : status.code(),
                fmt::format("store {}, key \"{}\": {}{}", config_.address, request.key, status.message(),
                            late ? fmt::format(" within {} ms", waited) : ""));
}

Result<Reply> StoreClient::exchange(const Request& request, TimePoint deadline) {
  auto taken = connection(deadline);
  if (!taken.ok()) return taken.status();
  EstablishedSocket& connection = *taken;
  FrameWriter writer;
  HORA_TRY(writer.send(connection.socket.get(), encode(request)));
  while (writer.pending()) {
    HORA_TRY(await(connection.socket.get(), POLLOUT, deadline));
    HORA_TRY(writer.flush(connection.socket.get()));
  }
  for (;;) {
    auto frame = connection.reader.next();
    if (!frame.ok()) return frame.status();
    if (frame.value()) {
      auto reply = decode_reply(**frame);
      const MutexLock lock(mutex_);
      if (reply.ok() && idle_.size() < kIdleMax) idle_.push_back(std::move(connection));
      return reply;
    }
    HORA_TRY(await(connection.socket.get(), POLLIN, deadline));
    const Status status = connection.reader.fill(connection.socket.get());
    if (!status.ok() && status.code() != StatusCode::try_again) return status;
  }
}

Result<EstablishedSocket> StoreClient::connection(TimePoint deadline) {
  for (;;) {
    EstablishedSocket idle;
    {
      const MutexLock lock(mutex_);
      if (idle_.empty()) break;
      idle = std::move(idle_.back());
      idle_.pop_back();
    }
    // An idle connection has nothing to say but that it has ended.
    pollfd polled{idle.socket.get(), POLLIN, 0};
    if (::poll(&polled, 1, 0) == 0) return idle;
  }
  return connect(deadline);
}

Result<EstablishedSocket> StoreClient::connect(TimePoint deadline) {
  for (std::size_t attempt = 0;; ++attempt) {
    auto socket = dial(config_.address, attempt);
    Status status = socket.status();
    if (status.ok()) {
      auto established = shake_hands(std::move(*socket), deadline);
      if (established.ok()) return established;
      status = established.status();
    }
    // It may not listen yet, or be full for a moment. Whatever else is wrong stays wrong.
    if (status.code() != StatusCode::peer_failed && status.code() != StatusCode::try_again) return status;
    if (clock_.now() >= deadline)
      return Status(StatusCode::timed_out, fmt::format("{}; not reached", status.message()));
    const Status waited = await(-1, 0, std::min(deadline, clock_.now() + kRedialTime));
    if (waited.code() == StatusCode::shut_down) return waited;
  }
}

Result<EstablishedSocket> StoreClient::shake_hands(UniqueFd socket, TimePoint deadline) {
  HandshakingSocket handshake(std::move(socket), Handshake::Role::dialer,
                              HandshakeIdentity{"store", config_.job, MemberId()}, config_.secret);
  const TimePoint connected_by = clock_.now() + kConnectTime;
  for (;;) {
    const bool connects = handshake.poll_events() == POLLOUT;
    const Status waited =
        await(handshake.fd(), handshake.poll_events(), connects ? std::min(deadline, connected_by) : deadline);
    if (connects && waited.code() == StatusCode::timed_out) return Status(StatusCode::try_again, "it does not answer");
    HORA_TRY(waited);
    const Status status = handshake.advance();
    if (status.ok()) return handshake.take();
    if (status.code() != StatusCode::try_again) return status;
  }
}

Status StoreClient::await(int fd, short events, TimePoint deadline) const {
  for (;;) {
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock_.now()).count();
    if (wait <= 0) return expired();
    pollfd polled[] = {{fd, events, 0}, {config_.cancel, POLLIN, 0}};
    const int found = ::poll(polled, 2, static_cast<int>(std::min<std::int64_t>(wait, 60'000)));
    if (polled[1].revents != 0) return {StatusCode::shut_down, "the client was cancelled"};
    if (found > 0) return {};
    if (found < 0 && errno != EINTR) return system_error("poll", errno);
  }
}

}  // namespace hora::store
