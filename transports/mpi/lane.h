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

// Packets under way on one lane, in order, in memory of their own. Nothing is allocated before the first one.
class PacketRing {
 public:
  static constexpr std::size_t kPackets = 4;

  void allocate();
  [[nodiscard]] bool allocated() const noexcept { return memory_ != nullptr; }
  // The packet that comes next: the oldest one, or a free one.
  [[nodiscard]] std::span<std::byte> packet() noexcept { return packet(next_); }
  [[nodiscard]] hora_mpi_request& request() noexcept { return requests_[next_]; }
  void advance() noexcept { next_ = (next_ + 1) % kPackets; }

  // MPI uses the next packet; and whether it still does, asking MPI where that is not known.
  void set_busy() noexcept { busy_[next_] = true; }
  Result<bool> is_busy(Library& library);
  // The same for all of them.
  Result<bool> is_any_busy(Library& library);

 private:
  [[nodiscard]] std::span<std::byte> packet(std::size_t index) noexcept;

  std::unique_ptr<std::byte[]> memory_;
  std::array<hora_mpi_request, kPackets> requests_{};
  std::array<bool, kPackets> busy_{};
  std::size_t next_ = 0;
};

class Outgoing {
 public:
  Outgoing(Library& library, int peer, int lane) : library_(library), peer_(peer), lane_(lane) {}

  // As PairTransport::try_send(). Adds to `moves` when bytes left. An error is for good.
  Result<bool> send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves);
  // There is room, or an error to be told.
  [[nodiscard]] bool is_ready() { return !status_.ok() || !ring_.allocated() || !is_full(); }
  // Abandons what was begun and says that nothing more comes. True once all packets have been received.
  bool close();

 private:
  bool is_full();
  bool post(const PacketHeader& header, std::span<const std::byte> payload);

  Library& library_;
  const int peer_;
  const int lane_;
  PacketRing ring_;
  Tag tag_;
  std::size_t sent_ = 0;
  bool active_ = false;  // the message of tag_ has begun and is not whole
  bool closed_ = false;
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
  // After drain() on all lanes: takes back from MPI what still waits for packets.
  Status cancel();

 private:
  bool has_packet();
  bool post();

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
