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
// What every MPI passes on without waiting for the receiver.
constexpr std::size_t kShortBytes = 1024;

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

Result<bool> PacketRing::is_first_complete(Library& library) {
  if (idle() || first_complete_) return !idle();
  const auto complete = library.test(requests_[first_]);
  if (!complete.ok()) return complete.status();
  first_complete_ = complete.value();
  return first_complete_;
}

void PacketRing::remove_first() noexcept {
  first_ = (first_ + 1) % kPackets;
  --count_;
  first_complete_ = false;
}

// Forgets the packets that have left.
void Outgoing::reap() {
  while (status_.ok()) {
    const auto complete = ring_.is_first_complete(library_);
    if (!complete.ok()) status_ = complete.status();
    if (!complete.ok() || !complete.value()) return;
    ring_.remove_first();
  }
}

// False when there is no room, or an error.
bool Outgoing::post(const PacketHeader& header, std::span<const std::byte> payload) {
  if (!ring_.allocated()) ring_.allocate();
  if (ring_.full()) reap();
  if (!status_.ok() || ring_.full()) return false;
  const auto packet = ring_.next();
  std::memcpy(packet.data(), &header, sizeof(header));
  if (!payload.empty()) std::memcpy(packet.data() + kHeaderBytes, payload.data(), payload.size());
  const auto mode = header.total <= kShortBytes ? Library::Mode::at_once : Library::Mode::when_received;
  status_ = library_.send(peer_, lane_, packet.first(kHeaderBytes + payload.size()), mode, ring_.next_request());
  if (!status_.ok()) return false;
  ring_.add();
  return true;
}

Result<bool> Outgoing::send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves) {
  if (active_ && tag_ != tag && !is_past(tag_, tag)) return false;
  if (!active_ || tag_ != tag) cut_ = 0, all_cut_ = false;
  active_ = true;
  tag_ = tag;
  while (!all_cut_) {
    const PacketHeader header{tag, data.size(), cut_, false};
    const std::size_t bytes = payload_of(header);
    if (!post(header, data.subspan(cut_, bytes))) break;
    cut_ += bytes;
    all_cut_ = cut_ == data.size();
    ++moves;
  }
  reap();
  if (!status_.ok()) return status_;
  active_ = !all_cut_ || !ring_.idle();
  if (!active_) ++moves;  // the next one may begin
  return !active_;
}

bool Outgoing::is_ready() {
  reap();
  return !status_.ok() || (all_cut_ ? ring_.idle() : !ring_.full());
}

bool Outgoing::close() {
  if (!said_goodbye_) said_goodbye_ = post({{}, 0, 0, true}, {});
  reap();
  return said_goodbye_ && status_.ok() && ring_.idle();
}

bool Incoming::has_packet() {
  if (!ring_.allocated()) ring_.allocate();
  while (status_.ok() && !ring_.full()) post();
  if (!status_.ok()) return false;
  const auto complete = ring_.is_first_complete(library_);
  if (!complete.ok()) status_ = complete.status();
  return complete.ok() && complete.value();
}

// Gives a packet to MPI, to be filled.
void Incoming::post() {
  status_ = library_.receive(peer_, lane_, ring_.next(), ring_.next_request());
  if (status_.ok()) ring_.add();
}

Result<bool> Incoming::receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves) {
  empty_ = false;
  while (status_.ok() && has_packet()) {
    PacketHeader header;
    std::memcpy(&header, ring_.first().data(), sizeof(header));
    if (header.goodbye) return false;
    if (is_past(header.tag, tag)) {
      ring_.remove_first();
      continue;
    }
    if (header.tag != tag) return false;
    if (header.offset == 0) received_ = 0;
    if (header.total != data.size() || header.offset != received_ || header.offset > header.total)
      return Status(StatusCode::internal,
                    fmt::format("{} bytes at {} of {} came where {} at {} were expected", payload_of(header),
                                header.offset, header.total, data.size(), received_));
    const std::size_t bytes = payload_of(header);
    if (bytes != 0) std::memcpy(data.data() + received_, ring_.first().data() + kHeaderBytes, bytes);
    received_ += bytes;
    ++moves;
    ring_.remove_first();
    if (received_ == data.size()) return true;
  }
  if (!status_.ok()) return status_;
  empty_ = true;
  return false;
}

bool Incoming::drain() {
  while (!closed_ && has_packet()) {
    PacketHeader header;
    std::memcpy(&header, ring_.first().data(), sizeof(header));
    closed_ = header.goodbye;
    ring_.remove_first();
  }
  return closed_;
}

Status Incoming::cancel() {
  for (; !ring_.idle(); ring_.remove_first()) HORA_TRY(library_.cancel(ring_.first_request()));
  return {};
}

}  // namespace hora::mpi
