#include "base/handshaking_socket.h"

#include <fmt/format.h>
#include <poll.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/entropy.h"
#include "base/socket_address.h"

namespace hora {
namespace {

Handshake::Nonce new_nonce() {
  Handshake::Nonce nonce;
  fill_with_entropy(nonce);
  return nonce;
}

}  // namespace

HandshakingSocket::HandshakingSocket(UniqueFd socket, Handshake::Role role, HandshakeIdentity self, std::string secret,
                                     int passed_fd)
    : socket_(std::move(socket)),
      role_(role),
      handshake_(role, std::move(self), std::move(secret), new_nonce()),
      passed_fd_(passed_fd) {}

short HandshakingSocket::poll_events() const noexcept {
  return role_ == Handshake::Role::dialer && !started_ ? POLLOUT : POLLIN;
}

Status HandshakingSocket::advance() {
  if (role_ == Handshake::Role::dialer && !started_) {
    const int error = connection_error(socket_);
    nobody_listens_ = error == ECONNREFUSED;
    if (error != 0) return {StatusCode::peer_failed, fmt::format("cannot connect: {}", ::strerror(error))};
    started_ = true;
    HORA_TRY(writer_.send(socket_.get(), handshake_.hello()));
  }
  while (!done_) {
    auto frame = reader_.next();
    if (!frame.ok()) return refuse(frame.status()), frame.status();
    if (*frame) {
      HORA_TRY(answer(**frame));
    } else {
      // What follows the handshake is for whoever takes the socket over.
      HORA_TRY(reader_.fill_frame(socket_.get()));
    }
  }
  return {};
}

Status HandshakingSocket::answer(std::span<const std::byte> frame) {
  auto reply = handshake_.on_frame(frame);
  if (!reply.ok()) return refuse(reply.status()), reply.status();
  if (reply->may_carry_fd && passed_fd_ >= 0 && peer().purpose == "control") {
    HORA_TRY(writer_.send_with_fd(socket_.get(), reply->frame, passed_fd_));
  } else if (!reply->frame.empty()) {
    HORA_TRY(writer_.send(socket_.get(), reply->frame));
    if (writer_.pending()) return {StatusCode::peer_failed, "the other end does not read its handshake"};
  }
  done_ = reply->done;
  return {};
}

void HandshakingSocket::refuse(const Status& reason) {
  // Best effort: who does not read it finds the connection closed.
  (void)writer_.send(socket_.get(), Handshake::refusal(reason));
}

EstablishedSocket HandshakingSocket::take() {
  // If it does not go out, the connection is broken, and its reader will find that.
  if (role_ == Handshake::Role::listener) (void)writer_.send(socket_.get(), Handshake::welcome());
  reader_.set_frame_bytes_max(kFrameBytesMax);
  EstablishedSocket established{std::move(socket_), std::move(reader_), handshake_.peer(), UniqueFd()};
  established.passed_fd = established.reader.take_fd();
  return established;
}

}  // namespace hora
