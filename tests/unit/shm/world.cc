#include "unit/shm/world.h"

#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <catch2/catch.hpp>
#include <cstring>
#include <numeric>

namespace hora::shm::test {
namespace {

// Exact in float16 and bfloat16 for the small whole numbers used here.
std::uint16_t to_float16(double value) {
  const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  if ((bits & 0x7fffffffU) == 0) return 0;
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000U) | (((bits & 0x7fffffffU) >> 13) - (112U << 10)));
}

void store(std::byte* at, DataType dtype, double value) {
  const auto put = [at](auto typed) { std::memcpy(at, &typed, sizeof(typed)); };
  switch (dtype) {
    case DataType::float16: return put(to_float16(value));
    case DataType::bfloat16:
      return put(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) >> 16));
    case DataType::float32: return put(static_cast<float>(value));
    case DataType::float64: return put(value);
    case DataType::int8: return put(static_cast<std::int8_t>(value));
    case DataType::int16: return put(static_cast<std::int16_t>(value));
    case DataType::int32: return put(static_cast<std::int32_t>(value));
    case DataType::int64: return put(static_cast<std::int64_t>(value));
    case DataType::uint8: return put(static_cast<std::uint8_t>(value));
  }
}

double input(const Shape& shape, int rank, std::size_t tensor, std::size_t i) {
  const std::size_t place = (i + tensor * 3) % 5;
  // Averages must come out whole, products small.
  if (shape.signature.op == ReduceOp::product) return place == 0 && rank < 3 ? 2 : 1;
  if (shape.signature.op == ReduceOp::average) return static_cast<double>(place);
  return static_cast<double>(place + static_cast<std::size_t>(rank));
}

double reduced(const Shape& shape, int size, std::size_t tensor, std::size_t i) {
  double result = input(shape, 0, tensor, i);
  for (int rank = 1; rank < size; ++rank) {
    const double next = input(shape, rank, tensor, i);
    switch (shape.signature.op) {
      case ReduceOp::average: break;  // all ranks give the same
      case ReduceOp::sum: result += next; break;
      case ReduceOp::product: result *= next; break;
      case ReduceOp::min: result = std::min(result, next); break;
      case ReduceOp::max: result = std::max(result, next); break;
    }
  }
  return result;
}

}  // namespace

bool send_fd(int socket, int fd) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  std::memcpy(CMSG_DATA(header), &fd, sizeof(fd));
  return ::sendmsg(socket, &message, 0) == 1;
}

UniqueFd receive_fd(int socket) {
  char byte = 0;
  iovec data{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  int fd = -1;
  if (::recvmsg(socket, &message, MSG_CMSG_CLOEXEC) == 1 && message.msg_controllen != 0)
    std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
  return UniqueFd(fd);
}

std::unique_ptr<Segment> make_segment(MemberId owner, const SegmentLayout& layout) {
  Result<std::unique_ptr<Segment>> segment = Segment::create(owner, layout);
  INFO(segment.status().to_string());
  REQUIRE(segment.ok());
  return std::move(segment).value();
}

View make_view(int size, std::uint64_t epoch) {
  View view;
  view.epoch = Epoch{epoch};
  view.config.chunk_bytes = 0;
  for (int i = 0; i < size; ++i) view.members.push_back({MemberId{100 + static_cast<std::uint64_t>(i)}, 1, ""});
  return view;
}

View without(const View& view, const std::vector<int>& gone) {
  View next = view;
  next.epoch.value += 1;
  next.members.clear();
  for (int i = 0; i < view.size(); ++i)
    if (std::find(gone.begin(), gone.end(), i) == gone.end())
      next.members.push_back(view.members[static_cast<std::size_t>(i)]);
  return next;
}

World::World(int size, const SegmentLayout& layout) : view(make_view(size)) {
  std::vector<const Segment*> members;
  for (const Member& member : view.members) {
    segments.push_back(make_segment(member.id, layout));
    members.push_back(segments.back().get());
  }
  for (const auto& segment : segments) groups.push_back(std::make_unique<ShmGroup>(*segment, members, view));
}

Shape make_shape(Collective kind, DataType dtype, ReduceOp op, std::vector<std::size_t> counts, bool in_place,
                 int root) {
  Shape shape;
  shape.signature = {kind, dtype, op, Rank{root}, std::accumulate(counts.begin(), counts.end(), std::uint64_t{0})};
  shape.counts = std::move(counts);
  shape.in_place = in_place;
  return shape;
}

Buffers make_buffers(const Shape& shape, int rank, int size) {
  Buffers buffers;
  const Signature& signature = shape.signature;
  if (signature.kind == Collective::barrier) return buffers;
  const std::size_t element = size_of(signature.dtype);
  const bool gathers = signature.kind == Collective::allgather;
  for (std::size_t tensor = 0; tensor < shape.counts.size(); ++tensor) {
    const std::size_t count = shape.counts[tensor];
    std::vector<std::byte> source(count * element);
    for (std::size_t i = 0; i < count; ++i)
      store(source.data() + i * element, signature.dtype, input(shape, rank, tensor, i));
    buffers.targets.emplace_back(source.size() * static_cast<std::size_t>(gathers ? size : 1), std::byte{0xee});
    buffers.sources.push_back(std::move(source));
  }
  for (std::size_t tensor = 0; tensor < shape.counts.size(); ++tensor) {
    std::vector<std::byte>& source = buffers.sources[tensor];
    std::vector<std::byte>& target = buffers.targets[tensor];
    if (shape.in_place) {
      // The input of an allgather lies at its place in the output.
      const std::size_t place = gathers ? static_cast<std::size_t>(rank) * source.size() : 0;
      std::copy(source.begin(), source.end(), target.begin() + static_cast<std::ptrdiff_t>(place));
      buffers.extents.push_back({target.data() + place, target.data(), source.size()});
    } else {
      buffers.extents.push_back({source.data(), target.data(), source.size()});
    }
  }
  return buffers;
}

std::vector<std::vector<std::byte>> expected_outputs(const Shape& shape, int rank, int size) {
  const Signature& signature = shape.signature;
  std::vector<std::vector<std::byte>> outputs = make_buffers(shape, rank, size).targets;
  const std::size_t element = size_of(signature.dtype);
  for (std::size_t tensor = 0; tensor < outputs.size(); ++tensor) {
    for (std::size_t i = 0; i < shape.counts[tensor]; ++i) {
      std::byte* at = outputs[tensor].data() + i * element;
      if (signature.kind == Collective::allreduce) {
        store(at, signature.dtype, reduced(shape, size, tensor, i));
      } else if (signature.kind == Collective::broadcast) {
        // Nobody writes the root's target.
        if (rank != signature.root.value) store(at, signature.dtype, input(shape, signature.root.value, tensor, i));
      } else {
        for (int from = 0; from < size; ++from)
          store(at + static_cast<std::size_t>(from) * shape.counts[tensor] * element, signature.dtype,
                input(shape, from, tensor, i));
      }
    }
  }
  return outputs;
}

}  // namespace hora::shm::test
