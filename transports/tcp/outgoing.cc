#include "transports/tcp/outgoing.h"

#include <algorithm>

#include "interfaces/operation.h"

namespace hora::tcp {
namespace {

constexpr std::array<std::byte, 64 << 10> kZeros{};

}  // namespace

void Outgoing::enter(Epoch epoch) noexcept {
  for (std::size_t lane = 0; lane < kLanes; ++lane)
    if (messages_[lane].active && messages_[lane].tag.epoch < epoch) abandon(lane);
}

void Outgoing::abandon(std::size_t lane) noexcept {
  messages_[lane].active = false;
  for (Frame& frame : frames_)
    if (frame.open && frame.lane == lane) frame.abandoned = true;
}

bool Outgoing::send(const Tag& tag, std::span<const std::byte> data, std::uint64_t& moves) noexcept {
  const std::size_t lane = tag.channel == kChannelCount ? 1 : 0;
  Message& message = messages_[lane];
  if (message.active && message.tag != tag) {
    if (!is_past(message.tag, tag)) return false;
    abandon(lane);
  }
  if (!message.active) message = Message{tag, 0, false, 0, true};
  const std::size_t usable = lane == 0 ? frames_.size() : 1;
  std::size_t frames = 0;
  for (bool moved = true; moved && !closed_ && frames < kCallBytes / kFrameBytes;) {
    moved = false;
    for (std::size_t stream = 0; stream < usable && !closed_; ++stream)
      if (push(stream, lane, data, moves)) moved = true, ++frames;
  }
  if (closed_) return false;
  if (!message.all_cut || message.frames_open > 0) {
    // Those that are full wait for room already; this is for a call that had enough.
    if (frames >= kCallBytes / kFrameBytes) streams_[0]->await_room();
    return false;
  }
  message.active = false;
  return true;
}

// True when a frame of `lane` was taken whole, so that the stream may take the next one.
bool Outgoing::push(std::size_t stream, std::size_t lane, std::span<const std::byte> data,
                    std::uint64_t& moves) noexcept {
  Frame& frame = frames_[stream];
  Message& message = messages_[lane];
  if (frame.open && frame.abandoned && !write(*streams_[stream], frame, {}, moves)) return false;
  if (frame.open && frame.lane != lane) return false;  // who sends that one waits for room
  if (!frame.open) {
    if (message.all_cut) return false;
    cut(message, lane, data.size(), frame);
  }
  if (!write(*streams_[stream], frame, data, moves)) return false;
  --message.frames_open;
  return true;
}

void Outgoing::cut(Message& message, std::size_t lane, std::size_t total, Frame& frame) noexcept {
  const auto length = std::min<std::size_t>(kFrameBytes, total - message.cut);
  frame.open = true;
  frame.abandoned = false;
  frame.lane = lane;
  frame.offset = message.cut;
  frame.length = length;
  frame.sent = 0;
  encode({message.tag, message.cut, static_cast<std::uint32_t>(length), total}, frame.header);
  message.cut += length;
  message.all_cut = message.cut == total;
  ++message.frames_open;
}

// True when the frame was taken whole. Never asks a stream again that took less than was offered: it is full.
bool Outgoing::write(Stream& stream, Frame& frame, std::span<const std::byte> data, std::uint64_t& moves) noexcept {
  const std::size_t total = kHeaderBytes + frame.length;
  while (frame.sent < total) {
    const std::size_t header_left = frame.sent < kHeaderBytes ? kHeaderBytes - frame.sent : 0;
    const std::size_t payload_sent = frame.sent - (kHeaderBytes - header_left);
    std::size_t payload_left = frame.length - payload_sent;
    const std::byte* payload = kZeros.data();
    if (frame.abandoned)
      payload_left = std::min(payload_left, kZeros.size());
    else
      payload = data.data() + frame.offset + payload_sent;
    std::array<iovec, 2> pieces;
    std::size_t count = 0;
    // The kernel only reads what is sent.
    if (header_left > 0) pieces[count++] = {frame.header.data() + (kHeaderBytes - header_left), header_left};
    if (payload_left > 0) pieces[count++] = {const_cast<std::byte*>(payload), payload_left};
    const Moved moved = stream.write(std::span(pieces).first(count));
    if (moved.closed) closed_ = true, error_ = moved.error;
    frame.sent += moved.bytes;
    if (moved.bytes > 0) ++moves;
    if (moved.bytes < header_left + payload_left) {
      stream.await_room();
      return false;
    }
  }
  frame.open = false;
  return true;
}

}  // namespace hora::tcp
