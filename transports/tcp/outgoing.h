// The sending end of one channel of a link: messages, one after another, cut into frames over several streams.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "transports/tcp/frame.h"
#include "transports/tcp/stream.h"

namespace hora::tcp {

using Streams = std::vector<std::unique_ptr<Stream>>;

class Outgoing {
 public:
  explicit Outgoing(const Streams& streams) : streams_(streams), frames_(streams.size()) {}

  // What was begun in an older epoch is abandoned.
  void enter(Epoch epoch) noexcept;
  // As PairTransport::try_send(). Adds to `moves` when bytes left.
  bool send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves) noexcept;
  // A stream refused its bytes for good: nothing is taken any more, since a frame is missing. As Moved::error.
  [[nodiscard]] bool closed() const noexcept { return closed_; }
  [[nodiscard]] int error() const noexcept { return error_; }

 private:
  // Operations, and what members tell each other on entering a view: it shares the first stream, and never waits for a
  // message of an operation, since it is the first of its epoch.
  static constexpr std::size_t kLanes = 2;
  struct Message {
    Tag tag;
    std::uint64_t cut = 0;  // bytes that are in frames
    bool all_cut = false;
    int frames_open = 0;  // begun and not yet taken whole
    bool active = false;
  };
  // The frame that a stream has begun to take. One of an abandoned message ends in zeros: its bytes may be gone, and
  // the stream must stay in step.
  struct Frame {
    bool open = false;
    bool abandoned = false;
    std::size_t lane = 0;
    EncodedHeader header{};
    std::uint64_t offset = 0;
    std::size_t length = 0;
    std::size_t sent = 0;  // of the header and the payload
  };

  void abandon(std::size_t lane) noexcept;
  bool push(std::size_t stream, std::size_t lane, std::span<const std::byte> data, std::uint64_t& moves) noexcept;
  static void cut(Message& message, std::size_t lane, std::size_t total, Frame& frame) noexcept;
  bool write(Stream& stream, Frame& frame, std::span<const std::byte> data, std::uint64_t& moves) noexcept;

  const Streams& streams_;
  std::vector<Frame> frames_;  // by stream
  std::array<Message, kLanes> messages_;
  bool closed_ = false;
  int error_ = 0;
};

}  // namespace hora::tcp
