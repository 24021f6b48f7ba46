#include "cuda/ferry.h"

#include <algorithm>
#include <cstring>

namespace hora::cuda {

namespace {

constexpr std::size_t kChunkBytes = 2 << 20;
constexpr std::size_t kStripsMost = 64;  // in a chunk: they are commands on a stream

// The part of `all` that a chunk of stage elements `first` to `last` has, with the chunk's own numbers of elements.
Pieces part_of(const Pieces& all, std::uint64_t first, std::uint64_t last, std::size_t target_bytes) {
  Pieces part;
  part.count = 0;
  for (std::uint32_t i = 0; i < all.count; ++i) {
    const std::uint64_t begin = std::max(all.begin[i], first), end = std::min(all.begin[i + 1], last);
    if (begin >= end) continue;
    part.memory[part.count] = all.memory[i] + (begin - all.begin[i]) * target_bytes;
    part.begin[part.count++] = begin - first;
  }
  part.begin[part.count] = last - first;
  return part;
}

}  // namespace

Result<std::unique_ptr<Ferry>> Ferry::open(Gpu& gpu, void (*ring)(void*), void* argument) {
  std::unique_ptr<Ferry> ferry(new Ferry(gpu, ring, argument));
  HORA_TRY(ferry->prepare(ferry->to_host_));
  HORA_TRY(ferry->prepare(ferry->to_device_));
  const auto unpacked = gpu.take_device_block(kChunkBytes);
  if (!unpacked.ok()) return unpacked.status();
  ferry->unpacked_ = unpacked.value();
  return ferry;
}

Status Ferry::prepare(Way& way) {
  const auto stream = gpu_.make_stream();
  if (!stream.ok()) return stream.status();
  way.stream = stream.value();
  for (Chunk& chunk : way.chunks) {
    const auto pinned = gpu_.make_pinned_block(kChunkBytes);
    if (!pinned.ok()) return pinned.status();
    chunk.pinned = pinned.value();
    const auto moved = gpu_.take_event();
    if (!moved.ok()) return moved.status();
    chunk.moved = moved.value();
  }
  return {};
}

Status Ferry::advance() {
  HORA_TRY(advance(to_host_));
  return advance(to_device_);
}

Status Ferry::advance(Way& way) {
  while (way.under_way > 0) {
    Chunk& oldest = way.chunks[(way.next + kChunks - way.under_way) % kChunks];
    const DriverCode code = gpu_.driver().event_query(oldest.moved);
    if (code == kDriverNotReady) break;
    if (code != kDriverSuccess) return driver_status(gpu_.driver(), code, "event_query");
    if (&way == &to_host_) std::memcpy(oldest.passage->host + oldest.offset, oldest.pinned, oldest.bytes);
    oldest.passage->landed += oldest.bytes;
    --way.under_way;
  }
  while (way.under_way < kChunks && !way.waiting.empty()) {
    Passage& passage = *way.waiting.front();
    if (passage.begun == passage.bytes) {
      way.waiting.pop_front();
      continue;
    }
    Chunk& chunk = way.chunks[way.next];
    chunk.passage = &passage;
    HORA_TRY(begin(way, chunk));
    way.next = (way.next + 1) % kChunks;
    ++way.under_way;
  }
  return {};
}

Status Ferry::begin(Way& way, Chunk& chunk) {
  Passage& passage = *chunk.passage;
  chunk.offset = passage.begun;
  chunk.bytes = std::min(passage.bytes - passage.begun, kChunkBytes);
  if (passage.unpacking)
    HORA_TRY(unpack(way, chunk));
  else
    HORA_TRY(move_strips(way, chunk));
  passage.begun += chunk.bytes;
  HORA_DRIVER_TRY(gpu_.driver(), event_record, chunk.moved, way.stream);
  HORA_DRIVER_TRY(gpu_.driver(), stream_call_host, way.stream, ring_, argument_);
  return {};
}

// As many bytes as lie in the next strips, at most those of the chunk.
Status Ferry::move_strips(const Way& way, Chunk& chunk) {
  const bool to_device = &way == &to_device_;
  const Passage& passage = *chunk.passage;
  if (to_device) std::memcpy(chunk.pinned, passage.host + chunk.offset, chunk.bytes);
  std::size_t moved = 0, strips = 0, skipped = 0;
  for (const Passage::Strip& strip : passage.strips) {
    const std::size_t before = std::min(chunk.offset - std::min(chunk.offset, skipped), strip.bytes);
    skipped += strip.bytes;
    const std::size_t bytes = std::min(strip.bytes - before, chunk.bytes - moved);
    if (bytes == 0) continue;
    if (strips++ == kStripsMost) break;
    if (to_device)
      HORA_DRIVER_TRY(gpu_.driver(), copy_to_device, strip.address + before, chunk.pinned + moved, bytes, way.stream);
    else
      HORA_DRIVER_TRY(gpu_.driver(), copy_to_host, chunk.pinned + moved, strip.address + before, bytes, way.stream);
    moved += bytes;
  }
  chunk.bytes = moved;
  return {};
}

Status Ferry::unpack(const Way& way, const Chunk& chunk) {
  const Passage::Unpacking& how = *chunk.passage->unpacking;
  const std::size_t element = how.staging.element_bytes;
  const Pieces part =
      part_of(how.pieces, chunk.offset / element, (chunk.offset + chunk.bytes) / element, how.target_bytes);
  std::memcpy(chunk.pinned, chunk.passage->host + chunk.offset, chunk.bytes);
  HORA_DRIVER_TRY(gpu_.driver(), copy_to_device, unpacked_.address, chunk.pinned, chunk.bytes, way.stream);
  return gpu_.copy_out(how.staging.out, part, unpacked_.address, how.divisor, gpu_.certain(), way.stream);
}

}  // namespace hora::cuda
