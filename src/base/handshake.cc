#include "base/handshake.h"

#include <fmt/format.h>

#include <utility>

namespace hora {
namespace {

enum class FrameKind : std::uint8_t { hello, proof, accept, refuse, welcome, limit };

constexpr std::uint32_t kMagic = 0x61726f68;  // "hora"
constexpr std::size_t kReasonBytesMax = 512;

wire::Bytes encode_hello(const HandshakeIdentity& self, const Handshake::Nonce& nonce) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(FrameKind::hello));
  writer.u32(kMagic);
  writer.u16(self.version);
  writer.string(self.purpose);
  writer.string(self.job);
  writer.u64(self.member.value);
  writer.u64(self.link);
  writer.u32(self.index);
  writer.bytes(nonce);
  return writer.take();
}

bool takes(std::string_view listener, std::string_view dialer) {
  return listener == dialer || (listener == "control" && (dialer == "data" || dialer == "state"));
}

}  // namespace

Handshake::Handshake(Role role, HandshakeIdentity self, std::string secret, const Nonce& nonce)
    : role_(role),
      self_(std::move(self)),
      secret_(std::move(secret)),
      nonce_(nonce),
      my_hello_(encode_hello(self_, nonce)) {}

wire::Bytes Handshake::refusal(const Status& reason) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(FrameKind::refuse));
  writer.string(reason.message().substr(0, kReasonBytesMax));
  return writer.take();
}

wire::Bytes Handshake::welcome() {
  return {static_cast<std::byte>(FrameKind::welcome)};
}

Result<Handshake::Reply> Handshake::on_frame(std::span<const std::byte> frame) {
  wire::Reader reader(frame);
  const auto kind = static_cast<FrameKind>(reader.below(static_cast<std::uint8_t>(FrameKind::limit)));
  if (!reader.ok()) return Status(StatusCode::mismatch, "the other end does not speak hora's protocol");
  if (kind == FrameKind::refuse) {
    const std::string reason = reader.string().substr(0, kReasonBytesMax);
    return Status(StatusCode::mismatch, fmt::format("refused by the other end: {}", reason));
  }
  Reply reply;
  if (kind == FrameKind::hello && expect_ == Expect::hello) {
    HORA_TRY(on_hello(frame));
    reply.frame = role_ == Role::listener ? my_hello_ : proof_frame();
    expect_ = Expect::proof;
    return reply;
  }
  if (kind == FrameKind::proof && expect_ == Expect::proof) {
    HORA_TRY(on_proof(reader));
    reply.may_carry_fd = true;
    if (role_ == Role::listener) {
      reply.frame = proof_frame();
      expect_ = Expect::accept;
    } else {
      reply.frame.push_back(static_cast<std::byte>(FrameKind::accept));
      expect_ = Expect::welcome;
    }
    return reply;
  }
  if ((kind == FrameKind::accept && expect_ == Expect::accept) ||
      (kind == FrameKind::welcome && expect_ == Expect::welcome)) {
    reply.done = true;
    expect_ = Expect::nothing;
    return reply;
  }
  return Status(StatusCode::mismatch, "the other end broke the order of the handshake");
}

Status Handshake::on_hello(std::span<const std::byte> frame) {
  wire::Reader reader(frame.subspan(1));
  const std::uint32_t magic = reader.u32();
  peer_.version = reader.u16();
  if (!reader.ok() || magic != kMagic) return {StatusCode::mismatch, "the other end does not speak hora's protocol"};
  // Whatever follows may be laid out differently in another version.
  if (peer_.version != self_.version)
    return {StatusCode::mismatch, fmt::format("protocol version {} met protocol version {}: all processes of a job "
                                              "must run the same version of hora",
                                              self_.version, peer_.version)};
  peer_.purpose = reader.string();
  peer_.job = reader.string();
  peer_.member = MemberId{reader.u64()};
  peer_.link = reader.u64();
  peer_.index = reader.u32();
  const bool nonce = reader.bytes().size() == Nonce().size();
  if (!reader.finished() || !nonce) return {StatusCode::mismatch, "the other end sent a malformed hello"};
  HORA_TRY(meet());
  if (role_ == Role::listener) {
    self_.purpose = peer_.purpose;
    self_.link = peer_.link;
    self_.index = peer_.index;
    my_hello_ = encode_hello(self_, nonce_);
  }
  peer_hello_.assign(frame.begin(), frame.end());
  return {};
}

Status Handshake::meet() const {
  const bool dials = role_ == Role::dialer;
  if (dials ? !takes(peer_.purpose, self_.purpose) : !takes(self_.purpose, peer_.purpose))
    return {StatusCode::mismatch, fmt::format("a {} connection met a {} socket", dials ? self_.purpose : peer_.purpose,
                                              dials ? peer_.purpose : self_.purpose)};
  if (peer_.job != self_.job)
    return {StatusCode::mismatch, fmt::format("job \"{}\" met job \"{}\" (HORA_JOB)", self_.job, peer_.job)};
  if (dials && self_.expected != MemberId() && peer_.member != self_.expected)
    return {StatusCode::mismatch,
            fmt::format("member {:016x} is not {:016x}", peer_.member.value, self_.expected.value)};
  if (dials && (peer_.link != self_.link || peer_.index != self_.index))
    return {StatusCode::mismatch, "the other end took the connection for another one"};
  return {};
}

Status Handshake::on_proof(wire::Reader& reader) const {
  const auto proof = reader.bytes();
  const Role other = role_ == Role::dialer ? Role::listener : Role::dialer;
  if (!reader.finished() || !equal_in_constant_time(proof, proof_of(other)))
    return {StatusCode::mismatch, "the other end has another secret (HORA_SECRET)"};
  return {};
}

Digest Handshake::proof_of(Role role) const {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(role));
  writer.bytes(role_ == Role::dialer ? my_hello_ : peer_hello_);
  writer.bytes(role_ == Role::dialer ? peer_hello_ : my_hello_);
  return hmac_sha256(secret_, writer.view());
}

wire::Bytes Handshake::proof_frame() const {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(FrameKind::proof));
  writer.bytes(proof_of(role_));
  return writer.take();
}

}  // namespace hora
