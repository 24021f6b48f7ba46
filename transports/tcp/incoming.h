// The receiving end of one channel of a link: frames from several streams, put together to messages where they belong.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "hora/status.hpp"
#include "transports/tcp/outgoing.h"

namespace hora::tcp {

class Incoming {
 public:
  // Messages up to so many bytes may be kept until somebody asks for them, and so many of them.
  static constexpr std::size_t kStoredBytesMax = 64 << 10;
  static constexpr int kStoredMax = 16;

  Incoming(const Streams& streams, std::uint8_t channel);

  // Older epochs are over.
  void enter(Epoch epoch);
  // As PairTransport::try_receive(). Adds to `moves` when bytes came.
  Result<bool> receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves);
  // Nothing more comes through a stream, though what is there can still be received. As Moved::error.
  [[nodiscard]] bool closed() const noexcept { return closed_; }
  [[nodiscard]] int error() const noexcept { return error_; }
  // A frame made no sense: there is no telling where the next one begins.
  [[nodiscard]] bool malformed() const noexcept { return malformed_; }

 private:
  static constexpr std::size_t kLanes = 2;
  // What is read beyond the end of a frame: the header of the next one, and a small message whole.
  static constexpr std::size_t kStageBytes = 4096;

  enum class Place : std::uint8_t {
    undecided,  // nobody has asked for it: the stream waits
    direct,     // in the memory of whoever asked for it
    stored,     // in our memory
    nowhere,    // its operation is over
  };
  struct Message {
    bool used = false;
    Tag tag;
    std::uint64_t total = 0;
    std::uint64_t received = 0;  // in whole frames
    bool begun = false;          // a frame came: tells an empty message from none
    bool stored = false;
    std::vector<std::byte> bytes;  // where it is stored; kept for the next one
    [[nodiscard]] bool complete() const { return begun && received == total; }
  };
  // One stream: bytes read and not yet used, and the frame that they belong to.
  struct Input {
    bool closed = false;
    std::unique_ptr<std::array<std::byte, kStageBytes>> stage = std::make_unique<std::array<std::byte, kStageBytes>>();
    std::size_t stage_begin = 0;
    std::size_t stage_end = 0;
    bool open = false;
    FrameHeader frame;
    Place place = Place::undecided;
    std::size_t message = 0;  // where it is direct or stored
    std::size_t done = 0;     // bytes of the payload
    [[nodiscard]] std::size_t staged() const { return stage_end - stage_begin; }
  };

  struct Request {
    const Tag& tag;
    std::span<std::byte> data;
    std::uint64_t& moves;
    bool wrong_length = false;
    std::size_t bytes_left = kCallBytes;
  };

  static std::size_t lane_of(const Tag& tag) noexcept;
  // The oldest operation that is not over, on the lane of `tag`.
  [[nodiscard]] Tag current(const Tag& tag) const noexcept;
  void drop_past();
  Message* find(const Tag& tag);
  std::size_t claim(const Tag& tag, std::uint64_t total, bool stored);
  void release(Message& message);
  bool take(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves);
  void close(Input& input, int error) noexcept;
  void pump(std::size_t stream, Request& request);
  bool read_header(Stream& stream, Input& input, std::uint64_t& moves);
  void decide(Input& input, Request& request);
  bool read_payload(Stream& stream, Input& input, Request& request);
  std::byte* target_of(const Input& input, const Request& request);

  const Streams& streams_;
  const std::uint8_t channel_;
  Epoch epoch_;
  std::array<std::uint64_t, kLanes> sequence_{};  // asked for last, by lane
  std::vector<Input> inputs_;                     // by stream
  std::vector<Message> messages_;
  int stored_count_ = 0;
  std::vector<std::byte> discarded_;
  bool malformed_ = false;
  bool closed_ = false;
  int error_ = 0;
};

}  // namespace hora::tcp
