#include "elastic/store/store_protocol.h"

#include <fmt/format.h>

namespace hora::store {
namespace {

void write_optional(wire::Writer& writer, const std::optional<std::string>& text) {
  writer.boolean(text.has_value());
  if (text) writer.string(*text);
}

std::optional<std::string> read_optional(wire::Reader& reader) {
  if (!reader.boolean()) return std::nullopt;
  return reader.string();
}

}  // namespace

wire::Bytes encode(const Request& request) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(request.operation));
  writer.string(request.key);
  writer.string(request.value);
  write_optional(writer, request.expected);
  writer.u64(static_cast<std::uint64_t>(request.amount));
  return writer.take();
}

wire::Bytes encode(const Reply& reply) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(reply.status.code()));
  writer.string(reply.status.message());
  write_optional(writer, reply.value);
  writer.boolean(reply.swapped);
  writer.u64(static_cast<std::uint64_t>(reply.sum));
  return writer.take();
}

Result<Request> decode_request(std::span<const std::byte> frame) {
  wire::Reader reader(frame);
  Request request;
  request.operation = static_cast<Operation>(reader.below(static_cast<std::uint8_t>(Operation::limit)));
  request.key = reader.string();
  request.value = reader.string();
  request.expected = read_optional(reader);
  request.amount = static_cast<std::int64_t>(reader.u64());
  if (!reader.finished()) return Status(StatusCode::invalid_argument, "malformed request");
  if (request.key.empty() || request.key.size() > kKeyBytesMax)
    return Status(StatusCode::invalid_argument,
                  fmt::format("a key has 1 to {} bytes, not {}", kKeyBytesMax, request.key.size()));
  if (request.value.size() > kValueBytesMax)
    return Status(StatusCode::invalid_argument,
                  fmt::format("a value has at most {} bytes, not {}", kValueBytesMax, request.value.size()));
  return request;
}

Result<Reply> decode_reply(std::span<const std::byte> frame) {
  wire::Reader reader(frame);
  const auto code = static_cast<StatusCode>(reader.below(static_cast<std::uint8_t>(StatusCode::internal) + 1));
  Reply reply;
  std::string message = reader.string();
  if (code == StatusCode::ok && !message.empty()) reader.fail();
  reply.status = Status(code, std::move(message));
  reply.value = read_optional(reader);
  reply.swapped = reader.boolean();
  reply.sum = static_cast<std::int64_t>(reader.u64());
  if (!reader.finished()) return Status(StatusCode::internal, "malformed reply");
  return reply;
}

}  // namespace hora::store
