#include "transports/shm/segment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/membarrier.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <string>

#include "hora/options.hpp"

namespace hora::shm {
namespace {

constexpr std::uint64_t kMagic = 0x3167657361726f68;  // "horaseg1"
constexpr std::uint32_t kVersion = 2;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;

std::size_t segment_bytes(const SegmentLayout& layout) noexcept {
  return stage_offsets(layout, kChannelCount - 1).end;
}

Status resource(std::string_view what, std::size_t bytes, int error) {
  const std::string_view advice =
      error == EMFILE   ? "raise the limit on open files (ulimit -n)"
      : error == ENFILE ? "raise the system's limit on open files (fs.file-max)"
                        : "free memory, raise the limit of the cgroup or of shared memory (ulimit -v), or lower "
                          "HORA_CHUNK_BYTES and HORA_ONE_SHOT_BYTES";
  return {StatusCode::resource,
          fmt::format("{} for a shared segment of {} bytes failed: {}; {}", what, bytes, std::strerror(error), advice)};
}

Status init_liveness(pthread_mutex_t& mutex) {
  pthread_mutexattr_t attributes;
  int error = pthread_mutexattr_init(&attributes);
  if (error == 0) error = pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  if (error == 0) error = pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (error == 0) error = pthread_mutex_init(&mutex, &attributes);
  if (error == 0) error = pthread_mutexattr_destroy(&attributes);
  if (error == 0) return {};
  return {StatusCode::unsupported, fmt::format("robust mutex in shared memory: {}", std::strerror(error))};
}

bool register_membarrier() noexcept {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

// Allocates the pages, so that no store meets a full memory later. Piece by piece: a signal ends a piece without
// effect, and the timer of a profiler must leave one the time it takes.
int allocate(const UniqueFd& fd, std::size_t bytes) noexcept {
  constexpr std::size_t kPieceBytes = std::size_t{1} << 20;
  for (std::size_t at = 0; at < bytes; at += kPieceBytes) {
    const auto piece = static_cast<off_t>(std::min(kPieceBytes, bytes - at));
    int error = EINTR;
    while (error == EINTR) error = posix_fallocate(fd.get(), static_cast<off_t>(at), piece);
    if (error != 0) return error;
  }
  return 0;
}

// Unmaps with its last owner. A forked child has no such mapping; its addresses may be somebody else's by now.
std::shared_ptr<void> own_mapping(void* memory, std::size_t bytes) {
  madvise(memory, bytes, MADV_DONTFORK);
  return {memory, [bytes, pid = getpid()](void* mapped) {
            if (pid == getpid()) munmap(mapped, bytes);
          }};
}

// What differs between the header of a received segment and what it should be; empty when nothing does.
std::string difference(const SegmentHeader& header, MemberId expected, const SegmentLayout& layout) {
  if (header.magic != kMagic) return "is not a hora segment";
  if (header.version != kVersion) return fmt::format("has version {}, this build wants {}", header.version, kVersion);
  if (header.layout != layout) {
    return fmt::format("has chunks of {} and one-shot slots of {} bytes, this member {} and {}",
                       header.layout.chunk_bytes, header.layout.one_shot_bytes, layout.chunk_bytes,
                       layout.one_shot_bytes);
  }
  if (header.bytes != segment_bytes(layout)) return fmt::format("says it has {} bytes", header.bytes);
  if (header.member != expected.value) return fmt::format("belongs to member {:x}", header.member);
  return {};
}

}  // namespace

SegmentLayout choose_layout(std::size_t cache_bytes, std::uint32_t chunk_bytes, std::uint32_t one_shot_bytes) noexcept {
  SegmentLayout layout;
  if (chunk_bytes != 0) {
    layout.chunk_bytes =
        static_cast<std::uint32_t>(round_up(std::clamp<std::size_t>(chunk_bytes, 4096, kChunkBytesMost), kStride));
  } else if (cache_bytes != 0) {
    // In and out slots of two members in half the cache; more members share larger caches or take smaller chunks.
    layout.chunk_bytes =
        static_cast<std::uint32_t>(round_up(std::clamp<std::size_t>(cache_bytes / 32, 64 << 10, 256 << 10), kStride));
  }
  if (one_shot_bytes != 0)
    layout.one_shot_bytes =
        static_cast<std::uint32_t>(round_up(std::clamp<std::size_t>(one_shot_bytes, 64, kOneShotBytesMost), kLine));
  return layout;
}

// A one-shot moves size * bytes to save a second meeting; more members pay for it sooner.
std::size_t choose_one_shot_bytes(int size, std::uint32_t one_shot_bytes, const SegmentLayout& layout) noexcept {
  const std::size_t fair =
      size <= 2 ? 8 << 10 : std::max<std::size_t>(2048, (32 << 10) / static_cast<std::size_t>(size));
  return std::min<std::size_t>(one_shot_bytes == 0 ? fair : one_shot_bytes, layout.one_shot_bytes);
}

Segment::Segment(std::shared_ptr<void> mapping, MemberId member, const SegmentLayout& layout, UniqueFd fd) noexcept
    : mapping_(std::move(mapping)),
      lines_(static_cast<Lines*>(mapping_.get())),
      member_(member),
      layout_(layout),
      fd_(std::move(fd)) {
  for (int channel = 0; channel < kChannelCount; ++channel) offsets_[channel] = stage_offsets(layout_, channel);
}

Result<std::unique_ptr<Segment>> Segment::create(MemberId owner, const SegmentLayout& layout) {
  const std::size_t bytes = segment_bytes(layout);
  UniqueFd fd(memfd_create("hora", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return resource("memfd_create", bytes, errno);
  if (const int error = allocate(fd, bytes); error != 0) return resource("fallocate", bytes, error);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (memory == MAP_FAILED) return resource("mmap", bytes, errno);
  // Fresh memory is zero, which is the first value of every word.
  auto* lines = static_cast<Lines*>(memory);
  lines->header.layout = layout;
  lines->header.bytes = bytes;
  lines->header.member = owner.value;
  lines->header.has_membarrier = register_membarrier() ? 1 : 0;
  lines->header.version = kVersion;
  lines->header.magic = kMagic;
  std::unique_ptr<Segment> segment(new Segment(own_mapping(memory, bytes), owner, layout, std::move(fd)));
  HORA_TRY(init_liveness(lines->liveness));
  if (fcntl(segment->fd(), F_ADD_SEALS, kSeals) != 0) {
    return Status(StatusCode::unsupported,
                  fmt::format("sealing a shared segment: {} (Linux 5.1 or newer is needed)", std::strerror(errno)));
  }
  return segment;
}

Result<std::unique_ptr<Segment>> Segment::attach(UniqueFd fd, MemberId expected, const SegmentLayout& layout) {
  const std::size_t bytes = segment_bytes(layout);
  const auto refuse = [&](std::string_view why) {
    return Status(StatusCode::invalid_argument,
                  fmt::format("the shared segment received for member {:x} {}", expected.value, why));
  };
  struct stat info {};
  if (fstat(fd.get(), &info) != 0) return refuse(fmt::format("cannot be examined: {}", std::strerror(errno)));
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & kSeals) != kSeals) return refuse("is not sealed against resizing and writing");
  if (static_cast<std::size_t>(info.st_size) < sizeof(SegmentHeader))
    return refuse(fmt::format("has {} bytes", info.st_size));
  const auto mapped = static_cast<std::size_t>(info.st_size);
  void* memory = mmap(nullptr, mapped, PROT_READ, MAP_SHARED | MAP_POPULATE, fd.get(), 0);
  if (memory == MAP_FAILED) return resource("mmap", mapped, errno);
  auto* lines = static_cast<Lines*>(memory);
  std::string why = difference(lines->header, expected, layout);
  if (why.empty() && mapped != bytes) why = fmt::format("has {} bytes instead of {}", mapped, bytes);
  if (!why.empty()) {
    munmap(memory, mapped);
    return refuse(why);
  }
  return std::unique_ptr<Segment>(new Segment(own_mapping(memory, bytes), expected, layout, UniqueFd()));
}

std::unique_ptr<Segment> Segment::attach_in_process(const Segment& own) {
  return std::unique_ptr<Segment>(new Segment(own.mapping_, own.member_, own.layout_, UniqueFd()));
}

Status Segment::write_record(std::span<const std::byte> record) {
  if (record.size() > kRecordBytes) {
    return {StatusCode::invalid_argument,
            fmt::format("a record of {} bytes is longer than {}", record.size(), kRecordBytes)};
  }
  const std::uint64_t version = lines_->record_version.value.load(std::memory_order_relaxed) + 1;
  RecordSlot& slot = lines_->records[version % 2];
  // Release: a reader that sees a word of this record sees the version of the one before, and so rejects its copy.
  slot.bytes.store(record.size(), std::memory_order_release);
  for (std::size_t i = 0; i * 8 < record.size(); ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, record.data() + i * 8, std::min<std::size_t>(8, record.size() - i * 8));
    slot.words[i].store(word, std::memory_order_release);
  }
  lines_->record_version.value.store(version, std::memory_order_release);
  return {};
}

std::optional<std::vector<std::byte>> Segment::read_record() const {
  constexpr int kAttempts = 1000;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const std::uint64_t version = lines_->record_version.value.load(std::memory_order_acquire);
    if (version == 0) return std::nullopt;
    const RecordSlot& slot = lines_->records[version % 2];
    const std::size_t bytes = std::min<std::size_t>(slot.bytes.load(std::memory_order_acquire), kRecordBytes);
    std::vector<std::byte> record(bytes);
    for (std::size_t i = 0; i * 8 < bytes; ++i) {
      const std::uint64_t word = slot.words[i].load(std::memory_order_acquire);
      std::memcpy(record.data() + i * 8, &word, std::min<std::size_t>(8, bytes - i * 8));
    }
    // Unchanged: the writer may at most have begun to fill the other slot.
    if (lines_->record_version.value.load(std::memory_order_relaxed) == version) return record;
  }
  return std::nullopt;
}

}  // namespace hora::shm
