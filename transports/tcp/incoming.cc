#include "transports/tcp/incoming.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "interfaces/operation.h"

namespace hora::tcp {
namespace {

constexpr std::size_t kDiscardBytes = 64 << 10;  // at a time

}  // namespace

Incoming::Incoming(const Streams& streams, std::uint8_t channel)
    : streams_(streams), channel_(channel), inputs_(streams.size()) {}

std::size_t Incoming::lane_of(const Tag& tag) noexcept {
  return tag.channel == kChannelCount ? 1 : 0;
}

Tag Incoming::current(const Tag& tag) const noexcept {
  return {epoch_, tag.channel, sequence_[lane_of(tag)], 0};
}

void Incoming::enter(Epoch epoch) {
  epoch_ = epoch;
  sequence_.fill(0);
  drop_past();
}

void Incoming::drop_past() {
  for (Input& input : inputs_)
    if (input.open && is_past(input.frame.tag, current(input.frame.tag))) input.place = Place::nowhere;
  for (Message& message : messages_)
    if (message.used && is_past(message.tag, current(message.tag))) release(message);
}

Result<bool> Incoming::receive(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves) {
  if (malformed_) return false;
  if (std::uint64_t& sequence = sequence_[lane_of(tag)]; tag.sequence > sequence) {
    sequence = tag.sequence;
    drop_past();
  }
  if (take(tag, data, moves)) return true;
  Request request{tag, data, moves};
  for (std::size_t stream = 0; stream < inputs_.size() && !malformed_; ++stream) {
    pump(stream, request);
    if (request.wrong_length) break;
    if (take(tag, data, moves)) return true;
  }
  const Message* message = find(tag);
  if (request.wrong_length || (message != nullptr && message->total != data.size()))
    return Status(StatusCode::internal,
                  fmt::format("a message of another length came where {} bytes were expected", data.size()));
  return false;
}

Incoming::Message* Incoming::find(const Tag& tag) {
  const auto found = std::ranges::find_if(messages_, [&](const Message& m) { return m.used && m.tag == tag; });
  return found == messages_.end() ? nullptr : &*found;
}

std::size_t Incoming::claim(const Tag& tag, std::uint64_t total, bool stored) {
  auto slot = std::ranges::find(messages_, false, &Message::used);
  if (slot == messages_.end()) slot = messages_.emplace(messages_.end());
  slot->used = true;
  slot->tag = tag;
  slot->total = total;
  slot->received = 0;
  slot->begun = false;
  slot->stored = stored;
  if (stored) slot->bytes.resize(total), ++stored_count_;
  return static_cast<std::size_t>(slot - messages_.begin());
}

void Incoming::release(Message& message) {
  message.used = false;
  if (message.stored) --stored_count_;
}

// True when the message of `tag` is whole and in `data`.
bool Incoming::take(const Tag& tag, std::span<std::byte> data, std::uint64_t& moves) {
  Message* message = find(tag);
  if (message == nullptr || !message->complete() || message->total != data.size()) return false;
  if (message->stored && !data.empty()) std::memcpy(data.data(), message->bytes.data(), data.size());
  release(*message);
  ++moves;
  return true;
}

void Incoming::close(Input& input, int error) noexcept {
  input.closed = closed_ = true;
  error_ = error;
}

// Reads as far as `request` reaches, or to the end of what is there.
void Incoming::pump(std::size_t stream, Request& request) {
  Input& input = inputs_[stream];
  while (!input.closed) {
    if (!input.open && !read_header(*streams_[stream], input, request.moves)) return;
    if (input.place == Place::undecided) decide(input, request);
    if (input.place == Place::undecided) return;
    if (input.place == Place::direct && messages_[input.message].tag != request.tag) return;
    if (!read_payload(*streams_[stream], input, request)) return;
    request.bytes_left -= std::min<std::size_t>(request.bytes_left, input.frame.length);
    if (request.bytes_left == 0) return streams_[stream]->await_input();
    // Reading on would cost a system call, most often for nothing.
    if (const Message* message = find(request.tag); message != nullptr && message->complete()) return;
  }
}

bool Incoming::read_header(Stream& stream, Input& input, std::uint64_t& moves) {
  while (input.staged() < kHeaderBytes) {
    if (input.stage_begin > 0) {
      std::memmove(input.stage->data(), input.stage->data() + input.stage_begin, input.staged());
      input.stage_end -= input.stage_begin;
      input.stage_begin = 0;
    }
    const iovec room{input.stage->data() + input.stage_end, kStageBytes - input.stage_end};
    const Moved moved = stream.read({&room, 1});
    if (moved.bytes == 0) {
      if (moved.closed)
        close(input, moved.error);
      else
        stream.await_input();
      return false;
    }
    input.stage_end += moved.bytes;
    ++moves;
  }
  const auto header = decode(std::span(*input.stage).subspan(input.stage_begin).first<kHeaderBytes>());
  if (!header || (header->tag.channel != channel_ && (header->tag.channel != kChannelCount || channel_ != 0))) {
    malformed_ = true;
    return false;
  }
  input.stage_begin += kHeaderBytes;
  input.open = true;
  input.frame = *header;
  input.place = Place::undecided;
  input.done = 0;
  return true;
}

void Incoming::decide(Input& input, Request& request) {
  const FrameHeader& frame = input.frame;
  if (is_past(frame.tag, current(frame.tag))) {
    input.place = Place::nowhere;
    return;
  }
  if (frame.tag == request.tag) {
    if (frame.total != request.data.size()) {
      request.wrong_length = true;
      return;
    }
    const Message* known = find(frame.tag);
    if (known != nullptr && known->total != frame.total) {
      malformed_ = true;
      return;
    }
    input.message =
        known != nullptr ? static_cast<std::size_t>(known - messages_.data()) : claim(frame.tag, frame.total, false);
    input.place = messages_[input.message].stored ? Place::stored : Place::direct;
    return;
  }
  // A message that is stored is one frame: kStoredBytesMax is less than a frame may hold.
  static_assert(kStoredBytesMax <= kFrameBytes);
  if (frame.total > kStoredBytesMax || stored_count_ >= kStoredMax || find(frame.tag) != nullptr) return;
  input.message = claim(frame.tag, frame.total, true);
  input.place = Place::stored;
}

std::byte* Incoming::target_of(const Input& input, const Request& request) {
  switch (input.place) {
    case Place::direct: return request.data.data() + input.frame.offset + input.done;
    case Place::stored: return messages_[input.message].bytes.data() + input.frame.offset + input.done;
    default: break;
  }
  discarded_.resize(kDiscardBytes);
  return discarded_.data();
}

// True when the frame is whole.
bool Incoming::read_payload(Stream& stream, Input& input, Request& request) {
  while (input.done < input.frame.length) {
    const std::size_t left = input.frame.length - input.done;
    std::byte* target = target_of(input, request);
    const bool nowhere = input.place == Place::nowhere;
    if (input.staged() > 0) {
      const std::size_t bytes = std::min(left, input.staged());
      if (!nowhere) std::memcpy(target, input.stage->data() + input.stage_begin, bytes);
      input.stage_begin += bytes;
      input.done += bytes;
      continue;
    }
    input.stage_begin = input.stage_end = 0;
    const std::size_t wanted = nowhere ? std::min(left, kDiscardBytes) : left;
    const std::array<iovec, 2> pieces{{{target, wanted}, {input.stage->data(), kStageBytes}}};
    const Moved moved = stream.read(std::span(pieces).first(wanted == left ? 2 : 1));
    if (moved.closed) close(input, moved.error);
    input.done += std::min(moved.bytes, wanted);
    if (moved.bytes > wanted) input.stage_end = moved.bytes - wanted;
    if (moved.bytes > 0) ++request.moves;
    if (moved.bytes < wanted) {
      // Nothing more was there. Should it have come meanwhile, the sleep ends at once.
      if (!moved.closed) stream.await_input();
      return false;
    }
  }
  input.open = false;
  if (input.place != Place::nowhere) {
    Message& message = messages_[input.message];
    message.begun = true;
    message.received += input.frame.length;
    if (message.received > message.total) malformed_ = true;
  }
  return true;
}

}  // namespace hora::tcp
