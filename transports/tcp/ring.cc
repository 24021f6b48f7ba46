#include "transports/tcp/ring.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace hora::tcp {
namespace {

constexpr std::uint64_t kRingMagic = 0x31676e6972726f68;  // "horring1"
constexpr std::size_t kHeaderSpace = 4096;
constexpr std::size_t kMemoryBytes = kHeaderSpace + kRingBytes;
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL;
static_assert(sizeof(RingHeader) <= kHeaderSpace && (kRingBytes & (kRingBytes - 1)) == 0);
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a read-only mapping can only be read");

Status resource(const char* what, int error) {
  return {StatusCode::resource,
          fmt::format("{} for a ring of {} bytes failed: {}; raise the limit on open files (ulimit -n) or free memory",
                      what, kMemoryBytes, std::strerror(error))};
}

}  // namespace

// A forked child has no such mapping; its addresses may be somebody else's by now.
std::shared_ptr<void> Ring::map_memory(const UniqueFd& fd, int protection) {
  void* memory = ::mmap(nullptr, kMemoryBytes, protection, MAP_SHARED, fd.get(), 0);
  if (memory == MAP_FAILED) return nullptr;
  ::madvise(memory, kMemoryBytes, MADV_DONTFORK);
  return {memory, [pid = ::getpid()](void* mapped) {
            if (pid == ::getpid()) ::munmap(mapped, kMemoryBytes);
          }};
}

Result<Ring> Ring::create(UniqueFd& fd) {
  fd.reset(::memfd_create("hora-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return resource("memfd_create", errno);
  // Allocates the pages, so that no store meets a full memory later.
  int error = EINTR;
  while (error == EINTR) error = ::posix_fallocate(fd.get(), 0, kMemoryBytes);
  if (error != 0) return resource("fallocate", error);
  auto memory = map_memory(fd, PROT_READ | PROT_WRITE);
  if (memory == nullptr) return resource("mmap", errno);
  if (::fcntl(fd.get(), F_ADD_SEALS, kSeals) != 0) return resource("sealing", errno);
  Ring ring(std::move(memory));
  auto* header = new (ring.memory_.get()) RingHeader;
  header->magic = kRingMagic;
  header->bytes = kRingBytes;
  return ring;
}

Result<Ring> Ring::map(const UniqueFd& fd) {
  struct stat status {};
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || ::fstat(fd.get(), &status) != 0 ||
      status.st_size != static_cast<off_t>(kMemoryBytes))
    return Status(StatusCode::internal, "what a peer sent is no sealed ring");
  auto memory = map_memory(fd, PROT_READ);
  if (memory == nullptr) return resource("mmap", errno);
  Ring ring(std::move(memory));
  if (ring.header().magic != kRingMagic || ring.header().bytes != kRingBytes)
    return Status(StatusCode::internal, "a peer's ring has another shape");
  return ring;
}

std::byte* Ring::data() const noexcept {
  return static_cast<std::byte*>(memory_.get()) + kHeaderSpace;
}

void Ring::put(std::uint64_t at, std::span<const std::byte> bytes) noexcept {
  const std::size_t begin = at % kRingBytes;
  const std::size_t first = std::min(bytes.size(), kRingBytes - begin);
  if (first > 0) std::memcpy(data() + begin, bytes.data(), first);
  if (first < bytes.size()) std::memcpy(data(), bytes.data() + first, bytes.size() - first);
}

void Ring::get(std::uint64_t at, std::span<std::byte> bytes) const noexcept {
  const std::size_t begin = at % kRingBytes;
  const std::size_t first = std::min(bytes.size(), kRingBytes - begin);
  if (first > 0) std::memcpy(bytes.data(), data() + begin, first);
  if (first < bytes.size()) std::memcpy(bytes.data() + first, data(), bytes.size() - first);
}

}  // namespace hora::tcp
