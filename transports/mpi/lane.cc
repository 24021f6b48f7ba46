#include "transports/mpi/lane.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

namespace hora::mpi {
namespace {

// Ranks of one job run the same program on machines of one kind: MPI moves bytes as they are.
static_assert(std::is_trivially_copyable_v<PacketHeader> && std::endian::native == std::endian::little);

// Padded, so that payloads are aligned for the copies.
constexpr std::size_t kHeaderBytes = 64;
constexpr std::size_t kPacketBytes = kHeaderBytes + kPayloadBytes;
static_assert(sizeof(PacketHeader) <= kHeaderBytes);

std::size_t payload_of(const PacketHeader& header) {
  return std::min<std::uint64_t>(kPayloadBytes, header.total - header.offset);
}

}  // namespace

// The pages are touched by the packets that need them: a lane of short messages stays small.
void PacketRing::allocate() {
  memory_ = std::make_unique_for_overwrite<std::byte[]>(kPackets * kPacketBytes);
}

std::span<std::byte> PacketRing::packet(std::size_t index) noexcept {
  return {memory_.get() + index * kPacketBytes, kPacketBytes};
}

Result<bool> PacketRing::is_busy(Library& library) {
  if (!busy_[next_]) return false;
  const auto complete = library.test(requests_[next_]);
  if (!complete.ok()) return complete.status();
  busy_[next_] = !complete.value();
  return busy_[next_];
}

Result<bool> PacketRing::is_any_busy(Library& library) {
  for (std::size_t i = 0; i < kPackets; ++i, advance())
    if (const auto busy = is_busy(library); !busy.ok() || busy.value()) return busy;
  return false;
}

bool Outgoing::is_full() {
  const auto busy = ring_.is_busy(library_);
  if (!busy.ok()) status_ = busy.status();
  return !busy.ok() || busy.value();
}

// False when there is no room, or an error.
bool Outgoing::post(const PacketHeader& header, std::span<const std::byte> payload) {
  if (!status_.ok()) return false;
  if (!ring_.allocated()) ring_.allocate();
  if (is_full()) return false;
  const auto packet = ring_.packet();
  std::memcpy(packet.data(), &header, sizeof(header));
  if (!payload.empty()) std::memcpy(packet.data() + kHeaderBytes, payload.data(), payload.size());
  status_ = library_.send(peer_, lane_, packet.first(kHeaderBytes + payload.size()), ring_.request());
  if (!status_.ok()) return false;
  ring_.set_busy();
  ring_.advance();
  return true;
}

Result<bool> Outgoing::send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves) {
  if (active_ && tag_ != tag && !is_past(tag_, tag)) return false;
  if (!active_ || tag_ != tag) sent_ = 0;
  active_ = true;
  tag_ = tag;
  do {
    const PacketHeader header{tag, data.size(), sent_, false};
    const std::size_t bytes = payload_of(header);
    if (!post(header, data.subspan(sent_, bytes))) {
      if (!status_.ok()) return status_;
      return false;
    }
    sent_ += bytes;
    ++moves;
  } while (sent_ < data.size());
  active_ = false;
  return true;
}

bool Outgoing::close() {
  if (!closed_) closed_ = post({{}, 0, 0, true}, {});
  if (!closed_) return false;
  const auto busy = ring_.is_any_busy(library_);
  return busy.ok() && !busy.value();
}

bool Incoming::has_packet() {
  if (!ring_.allocated()) {
    ring_.allocate();
    for (std::size_t i = 0; i < PacketRing::kPackets; ++i)
      if (!post()) return false;
  }
  const auto busy = ring_.is_busy(library_);
  if (!busy.ok()) status_ = busy.status();
  return busy.ok() && !busy.value();
}

// Gives the next packet to MPI.
bool Incoming::post() {
  status_ = library_.receive(peer_, lane_, ring_.packet(), ring_.request());
  if (!status_.ok()) return false;
  ring_.set_busy();
  ring_.advance();
  return true;
}

Result<bool> Incoming::receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves) {
  empty_ = false;
  while (status_.ok() && has_packet()) {
    PacketHeader header;
    std::memcpy(&header, ring_.packet().data(), sizeof(header));
    if (header.goodbye) return false;
    if (is_past(header.tag, tag)) {
      if (!post()) break;
      continue;
    }
    if (header.tag != tag) return false;
    if (header.offset == 0) received_ = 0;
    if (header.total != data.size() || header.offset != received_ || header.offset > header.total)
      return Status(StatusCode::internal, fmt::format("{} bytes at {} of {} came where {} at {} were expected",
                                                      payload_of(header), header.offset, header.total, data.size(), received_));
    const std::size_t bytes = payload_of(header);
    if (bytes != 0) std::memcpy(data.data() + received_, ring_.packet().data() + kHeaderBytes, bytes);
    received_ += bytes;
    ++moves;
    // An error of this post is told when the next message is asked for.
    (void)post();
    if (received_ == data.size()) return true;
  }
  if (!status_.ok()) return status_;
  empty_ = true;
  return false;
}

bool Incoming::drain() {
  while (!closed_ && status_.ok() && has_packet()) {
    PacketHeader header;
    std::memcpy(&header, ring_.packet().data(), sizeof(header));
    closed_ = header.goodbye;
    if (closed_) ring_.advance();
    else (void)post();
  }
  return closed_;
}

// The packet that said goodbye is the only one that MPI has given back.
Status Incoming::cancel() {
  for (std::size_t i = 1; i < PacketRing::kPackets; ++i, ring_.advance()) HORA_TRY(library_.cancel(ring_.request()));
  return {};
}

}  // namespace hora::mpi
