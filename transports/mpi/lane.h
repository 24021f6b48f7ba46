// One channel of a link over MPI: messages cut into packets that say which message they are of, like frames on a
// stream. MPI keeps the packets of one sender, tag and communicator in order, and nothing else is asked of it.
//
// What MPI reads and writes is memory of the lanes, never the caller's: an operation that a view change interrupts
// cannot be taken back from MPI, and a survivor's memory must not be written late, nor a peer read what came after.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "hora/status.hpp"
#include "interfaces/pair_transport.h"
#include "transports/mpi/library.h"

namespace hora::mpi {

struct PacketHeader {
  Tag tag;
  std::uint64_t total = 0;   // bytes of the message
  std::uint64_t offset = 0;  // of the payload in it
  bool goodbye = false;      // the last packet of the lane, of no message
};

// Far below what an int counts, and enough that the cost of a packet is small beside its copy.
inline constexpr std::size_t kPayloadBytes = 64 << 10;

// Packets that MPI works on, in order, in memory of their own. Nothing is allocated before the first one.
class PacketRing {
 public:
  static constexpr std::size_t kPackets = 4;

  void allocate();
  [[nodiscard]] bool allocated() const noexcept { return memory_ != nullptr; }
  [[nodiscard]] bool full() const noexcept { return count_ == kPackets; }
  [[nodiscard]] bool idle() const noexcept { return count_ == 0; }

  // The oldest one; it is MPI's until it is complete.
  [[nodiscard]] std::span<std::byte> first() noexcept { return packet(first_); }
  [[nodiscard]] hora_mpi_request& first_request() noexcept { return requests_[first_]; }
  Result<bool> is_first_complete(Library& library);
  void remove_first() noexcept;
  // A free one, and MPI works on it from now on. Precondition: not full.
  [[nodiscard]] std::span<std::byte> next() noexcept { return packet((first_ + count_) % kPackets); }
  [[nodiscard]] hora_mpi_request& next_request() noexcept { return requests_[(first_ + count_) % kPackets]; }
  void add() noexcept { ++count_; }

 private:
  [[nodiscard]] std::span<std::byte> packet(std::size_t index) noexcept;

  std::unique_ptr<std::byte[]> memory_;
  std::array<hora_mpi_request, kPackets> requests_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  bool first_complete_ = false;
};

// MPI moves bytes in calls only. A message counts as taken when MPI needs no more of them for it: its sender may not
// call for long. A short one, which MPI passes on at once, is sent as such; of a long one every packet waits until the
// receiver has begun to receive it, so that the receiver never has to hold more than it has asked for.
class Outgoing {
 public:
  Outgoing(Library& library, int peer, int lane) : library_(library), peer_(peer), lane_(lane) {}

  // As PairTransport::try_send(). Adds to `moves` when bytes left. An error is for good.
  Result<bool> send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves);
  // Something that the last send() waited for has come, or an error.
  [[nodiscard]] bool is_ready();
  // Abandons what was begun and says that nothing more comes. True once all packets have left.
  bool close();

 private:
  void reap();
  bool post(const PacketHeader& header, std::span<const std::byte> payload);

  Library& library_;
  const int peer_;
  const int lane_;
  PacketRing ring_;
  Tag tag_;
  std::size_t cut_ = 0;  // bytes of the message of tag_ that are in packets
  bool active_ = false;  // that message has begun, and was not taken
  bool all_cut_ = false;
  bool said_goodbye_ = false;
  Status status_;
};

class Incoming {
 public:
  Incoming(Library& library, int peer, int lane) : library_(library), peer_(peer), lane_(lane) {}

  // As PairTransport::try_receive(). Adds to `moves` when bytes came. A packet that nobody has asked for stays where it
  // is and holds up those behind it, and in the end their sender; see transports/tcp/link.h why never for ever.
  Result<bool> receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves);
  // The last receive() ended because nothing was there; and something is there now, or an error.
  [[nodiscard]] bool is_empty() const noexcept { return empty_; }
  [[nodiscard]] bool is_ready() { return !status_.ok() || has_packet(); }
  // Drops what comes. True once the peer has said that nothing more will.
  bool drain();
  // After drain(): takes back from MPI what still waits for packets.
  Status cancel();

 private:
  bool has_packet();
  void post();

  Library& library_;
  const int peer_;
  const int lane_;
  PacketRing ring_;
  std::size_t received_ = 0;  // of the message whose next packet comes first
  bool empty_ = false;
  bool closed_ = false;
  Status status_;
};

}  // namespace hora::mpi
