#include "launch/agent_messages.h"

namespace hora::launch {
namespace {

// First in every message, so that text is never taken for one.
constexpr std::uint32_t kMagic = 0x61726f68;  // "hora"

void write(wire::Writer& writer, const Setup& message) {
  writer.u32(static_cast<std::uint32_t>(message.command.size()));
  for (const std::string& word : message.command) writer.string(word);
  writer.string(message.directory);
  writer.u32(message.silence_ms);
}
void write(wire::Writer& writer, const Start& message) {
  writer.u32(static_cast<std::uint32_t>(message.process));
  writer.u32(static_cast<std::uint32_t>(message.variables.size()));
  for (const auto& [name, value] : message.variables) {
    writer.string(name);
    writer.string(value);
  }
}
void write(wire::Writer& writer, const Signal& message) {
  writer.u32(static_cast<std::uint32_t>(message.signal));
}
void write(wire::Writer& writer, const Taken& message) {
  writer.u64(message.bytes);
}
void write(wire::Writer& writer, const Ready& message) {
  writer.u32(message.protocol);
}
void write(wire::Writer& writer, const Refused& message) {
  writer.string(message.why);
}
void write(wire::Writer& writer, const NotStarted& message) {
  writer.u32(static_cast<std::uint32_t>(message.process));
  writer.string(message.why);
}
void write(wire::Writer& writer, const OutputBytes& message) {
  writer.u32(static_cast<std::uint32_t>(message.process));
  writer.u8(static_cast<std::uint8_t>(message.stream));
  writer.string(message.bytes);
}
void write(wire::Writer& writer, const Ended& message) {
  writer.u32(static_cast<std::uint32_t>(message.process));
  writer.u32(static_cast<std::uint32_t>(message.exit.code));
  writer.u32(static_cast<std::uint32_t>(message.exit.signal));
  writer.boolean(message.exit.lost);
  writer.boolean(message.out_of_memory);
}

void write(wire::Writer&, const Alive&) {}

int number(wire::Reader& reader) {
  const std::uint32_t value = reader.u32();
  if (value > INT32_MAX) reader.fail();
  return reader.ok() ? static_cast<int>(value) : 0;
}

void read(wire::Reader& reader, Setup& message) {
  for (std::uint32_t left = reader.count(4); left > 0; --left) message.command.push_back(reader.string());
  message.directory = reader.string();
  message.silence_ms = reader.u32();
  if (message.command.empty() || message.silence_ms == 0) reader.fail();
}
void read(wire::Reader& reader, Start& message) {
  message.process = number(reader);
  for (std::uint32_t left = reader.count(8); left > 0; --left) {
    std::string name = reader.string();
    message.variables.emplace_back(std::move(name), reader.string());
  }
}
void read(wire::Reader& reader, Signal& message) {
  message.signal = number(reader);
}
void read(wire::Reader& reader, Taken& message) {
  message.bytes = reader.u64();
}
void read(wire::Reader& reader, Ready& message) {
  message.protocol = reader.u32();
}
void read(wire::Reader& reader, Refused& message) {
  message.why = reader.string();
}
void read(wire::Reader& reader, NotStarted& message) {
  message.process = number(reader);
  message.why = reader.string();
}
void read(wire::Reader& reader, OutputBytes& message) {
  message.process = number(reader);
  message.stream = static_cast<Stream>(reader.below(2));
  message.bytes = reader.string();
}
void read(wire::Reader& reader, Ended& message) {
  message.process = number(reader);
  message.exit.code = number(reader);
  message.exit.signal = number(reader);
  message.exit.lost = reader.boolean();
  message.out_of_memory = reader.boolean();
}
void read(wire::Reader&, Alive&) {}

template <typename Message>
wire::Bytes encode_any(const Message& message) {
  wire::Writer writer;
  writer.u32(kMagic);
  writer.u8(static_cast<std::uint8_t>(message.index()));
  std::visit([&](const auto& one) { write(writer, one); }, message);
  return writer.take();
}

// An empty alternative of each kind, by its index.
template <typename Message, std::size_t... index>
Message alternative(std::size_t wanted, std::index_sequence<index...>) {
  Message message;
  ((index == wanted ? void(message.template emplace<index>()) : void()), ...);
  return message;
}

template <typename Message>
Result<Message> decode_any(std::span<const std::byte> frame) {
  constexpr std::size_t kKinds = std::variant_size_v<Message>;
  wire::Reader reader(frame);
  if (reader.u32() != kMagic) reader.fail();
  auto message = alternative<Message>(reader.below(kKinds), std::make_index_sequence<kKinds>());
  std::visit([&](auto& one) { read(reader, one); }, message);
  if (!reader.finished()) return Status(StatusCode::mismatch, "that is no message of hora");
  return message;
}

}  // namespace

wire::Bytes encode(const ToAgent& message) {
  return encode_any(message);
}

wire::Bytes encode(const FromAgent& message) {
  return encode_any(message);
}

Result<ToAgent> decode_to_agent(std::span<const std::byte> frame) {
  return decode_any<ToAgent>(frame);
}

Result<FromAgent> decode_from_agent(std::span<const std::byte> frame) {
  return decode_any<FromAgent>(frame);
}

}  // namespace hora::launch
