#include "negotiation/messages.h"

#include <utility>

namespace hora::negotiation {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
// Clang 14 does not deduce aggregates by itself.
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

void write_request(wire::Writer& out, const Request& request) {
  out.u64(request.signature.pack());
  out.u32(static_cast<std::uint32_t>(request.shape.size()));
  for (const std::int64_t dimension : request.shape) out.u64(static_cast<std::uint64_t>(dimension));
}

Request read_request(wire::Reader& in) {
  Request request;
  request.signature = Signature::unpack(in.u64());
  const std::uint32_t dimensions = in.count(8);
  if (dimensions == 0 || dimensions > kDimensionsMax) return in.fail(), Request();
  request.shape.reserve(dimensions);
  for (std::uint32_t i = 0; i < dimensions; ++i) request.shape.push_back(static_cast<std::int64_t>(in.u64()));
  return request;
}

std::string read_text(wire::Reader& in, std::size_t bytes_min, std::size_t bytes_max) {
  const auto text = in.bytes();
  if (text.size() < bytes_min || text.size() > bytes_max) return in.fail(), std::string();
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

std::string read_name(wire::Reader& in) {
  return read_text(in, 1, kNameBytesMax);
}

TensorId read_id(wire::Reader& in) {
  const std::uint32_t id = in.u32();
  if (id >= kTensorsMax) in.fail();
  return id;
}

std::uint32_t read_items(wire::Reader& in, std::size_t item_bytes, std::size_t items_max) {
  const std::uint32_t items = in.count(item_bytes);
  if (items == 0 || items > items_max) return in.fail(), 0;
  return items;
}

Announce read_announce(wire::Reader& in, int size) {
  Announce announce;
  announce.name = read_name(in);
  announce.round = in.u64();
  announce.request = read_request(in);
  if (in.ok() && !validate(announce.name, announce.request.signature, announce.request.shape, size).ok()) in.fail();
  return announce;
}

Ready read_ready(wire::Reader& in) {
  Ready ready;
  const std::uint32_t items = read_items(in, 20, kReadyItemsMax);
  ready.items.reserve(items);
  for (std::uint32_t i = 0; i < items; ++i) {
    Ready::Item& item = ready.items.emplace_back();
    item.id = read_id(in);
    item.round = in.u64();
    item.waited_ns = in.u64();
    if (item.waited_ns > static_cast<std::uint64_t>(INT64_MAX)) in.fail();
  }
  return ready;
}

Append read_append(wire::Reader& in) {
  Append append;
  append.position = in.u64();
  const std::uint32_t items = read_items(in, 4, kGroupTensorsMax);
  append.group.reserve(items);
  for (std::uint32_t i = 0; i < items; ++i) append.group.push_back(read_id(in));
  return append;
}

Reject read_reject(wire::Reader& in) {
  Reject reject;
  reject.name = read_name(in);
  reject.round = in.u64();
  const std::uint8_t code = in.u8();
  reject.code = static_cast<StatusCode>(code);
  if (reject.code != StatusCode::mismatch && reject.code != StatusCode::timed_out &&
      reject.code != StatusCode::resource)
    in.fail();
  reject.text = read_text(in, 0, kTextBytesMax);
  return reject;
}

Message read_message(wire::Reader& in, std::size_t type, int size) {
  switch (type) {
    case 0: return read_announce(in, size);
    case 1: return read_ready(in);
    case 2: {
      const TensorId id = read_id(in);
      return Define{id, read_name(in)};
    }
    case 3: return read_append(in);
    case 4: return read_reject(in);
    default: return Stall{read_text(in, 0, kTextBytesMax)};
  }
}

}  // namespace

wire::Bytes encode(Epoch epoch, const Message& message) {
  wire::Writer out;
  out.u8(static_cast<std::uint8_t>(message.index()));
  out.u64(epoch.value);
  std::visit(Overloaded{[&](const Announce& announce) {
                          out.string(announce.name);
                          out.u64(announce.round);
                          write_request(out, announce.request);
                        },
                        [&](const Ready& ready) {
                          out.u32(static_cast<std::uint32_t>(ready.items.size()));
                          for (const Ready::Item& item : ready.items) {
                            out.u32(item.id);
                            out.u64(item.round);
                            out.u64(item.waited_ns);
                          }
                        },
                        [&](const Define& define) {
                          out.u32(define.id);
                          out.string(define.name);
                        },
                        [&](const Append& append) {
                          out.u64(append.position);
                          out.u32(static_cast<std::uint32_t>(append.group.size()));
                          for (const TensorId id : append.group) out.u32(id);
                        },
                        [&](const Reject& reject) {
                          out.string(reject.name);
                          out.u64(reject.round);
                          out.u8(static_cast<std::uint8_t>(reject.code));
                          out.string(reject.text);
                        },
                        [&](const Stall& stall) { out.string(stall.text); }},
             message);
  return out.take();
}

std::optional<Message> decode(std::span<const std::byte> data, Epoch epoch, int size) {
  wire::Reader in(data);
  const std::uint8_t type = in.below(std::variant_size_v<Message>);
  if (in.u64() != epoch.value || !in.ok()) return std::nullopt;
  Message message = read_message(in, type, size);
  if (!in.finished()) return std::nullopt;
  return message;
}

std::optional<Epoch> epoch_of(std::span<const std::byte> data) {
  wire::Reader in(data);
  in.below(std::variant_size_v<Message>);
  const Epoch epoch{in.u64()};
  if (!in.ok()) return std::nullopt;
  return epoch;
}

}  // namespace hora::negotiation
