// Allreduce of float32 sums on the bare data plane: ShmGroup without the engine, ranks forked and pinned, measured as
// mpi_allreduce.c of the peers is (source dirtied, a spinning meeting before each call, the slowest rank's time
// counts). usage: micro_shm RANKS [CHUNK_BYTES ONE_SHOT_BYTES [MIN_BYTES MAX_BYTES FACTOR]]      0 chooses
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "transports/shm/group.h"

namespace {

using namespace hora;

struct alignas(128) Slot {
  std::atomic<long> turn;
  double seconds;
  std::atomic<int> fd;  // of the rank's segment, in its process
};

Slot* slots;
int rank, size;
bool crowded;
long turn;

void relax(int& spins) {
  if (crowded && ++spins > 50) {
    sched_yield();
  } else {
    __builtin_ia32_pause();
  }
}

void meet() {
  slots[rank].turn.store(++turn, std::memory_order_release);
  for (int i = 0; i < size; ++i)
    for (int spins = 0; slots[i].turn.load(std::memory_order_acquire) < turn;) relax(spins);
}

double slowest(double seconds) {
  slots[rank].seconds = seconds;
  meet();
  double worst = 0;
  for (int i = 0; i < size; ++i) worst = std::max(worst, slots[i].seconds);
  meet();
  return worst;
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Peers' memfds are opened through /proc: a shortcut that only a benchmark takes.
std::vector<std::unique_ptr<shm::Segment>> connect(const View& view, const shm::SegmentLayout& layout,
                                                   const std::vector<pid_t>& pids) {
  std::vector<std::unique_ptr<shm::Segment>> segments(static_cast<std::size_t>(size));
  auto own = shm::Segment::create(view.members[static_cast<std::size_t>(rank)].id, layout);
  if (!own.ok()) std::exit((std::fprintf(stderr, "%s\n", own.status().to_string().c_str()), 1));
  slots[rank].fd.store((*own)->fd());
  segments[static_cast<std::size_t>(rank)] = std::move(*own);
  meet();
  for (int i = 0; i < size; ++i) {
    if (i == rank) continue;
    char path[64];
    std::snprintf(path, sizeof(path), "/proc/%d/fd/%d", pids[static_cast<std::size_t>(i)], slots[i].fd.load());
    auto peer = shm::Segment::attach(UniqueFd(::open(path, O_RDONLY | O_CLOEXEC)),
                                     view.members[static_cast<std::size_t>(i)].id, layout);
    if (!peer.ok()) std::exit((std::fprintf(stderr, "%s\n", peer.status().to_string().c_str()), 1));
    segments[static_cast<std::size_t>(i)] = std::move(*peer);
  }
  meet();
  return segments;
}

void allreduce(shm::ShmGroup& group, std::uint64_t sequence, const float* in, float* out, std::size_t count) {
  const Extent extent{reinterpret_cast<const std::byte*>(in), reinterpret_cast<std::byte*>(out), count * 4};
  Step step = group.start({Channel::ordered,
                           sequence,
                           {Collective::allreduce, DataType::float32, ReduceOp::sum, Rank{0}, count},
                           {&extent, 1}});
  for (int spins = 0; step == Step::pending; step = group.step(Channel::ordered)) relax(spins);
}

double median(std::vector<double>& times) {
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] * 1e6;
}

void measure(shm::ShmGroup& group, std::uint64_t& sequence, std::size_t bytes, float* in, float* out) {
  int calls = bytes <= 16384 ? 3000 : bytes <= (1 << 20) ? 300 : bytes <= (8 << 20) ? 40 : 12;
  if (crowded) calls = calls / 10 + 6;
  const int warm = calls / 10 + 12;
  std::vector<double> times, copies;
  for (int call = -warm; call < calls; ++call) {
    for (std::size_t i = 0; i < bytes / 4; i += 16) in[i] = static_cast<float>(rank + 1 + (call & 1));
    meet();
    const double begin = now();
    allreduce(group, ++sequence, in, out, bytes / 4);
    const double worst = slowest(now() - begin);
    if (call >= 0) times.push_back(worst);
  }
  meet();
  const double begin = now();
  for (int call = 0; call < calls; ++call) allreduce(group, ++sequence, in, out, bytes / 4);
  const double chained = slowest(now() - begin) / calls;
  for (int i = 0; bytes >= (1 << 20) && i < 9; ++i) {
    meet();
    const double start = now();
    std::memcpy(out, in, bytes);
    copies.push_back(slowest(now() - start));
  }
  if (rank == 0) {
    const double middle = median(times);
    std::printf("%10zu B  median %10.2f us  p25 %10.2f us  back-to-back %10.2f us  memcpy %8.1f us\n", bytes, middle,
                times[times.size() / 4] * 1e6, chained * 1e6, copies.empty() ? 0 : median(copies));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, std::size_t otherwise) {
    return argc > i ? std::strtoull(argv[i], nullptr, 0) : otherwise;
  };
  size = static_cast<int>(argument(1, 2));
  crowded = size > sysconf(_SC_NPROCESSORS_ONLN);
  const auto layout = shm::choose_layout(shm::last_level_cache_bytes(), static_cast<std::uint32_t>(argument(2, 0)),
                                         static_cast<std::uint32_t>(argument(3, 0)));
  const std::size_t shared = sizeof(Slot) * static_cast<std::size_t>(size);
  slots = static_cast<Slot*>(mmap(nullptr, shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  auto* pids = static_cast<pid_t*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  for (rank = 0; rank < size - 1; ++rank)
    if (fork() == 0) break;
  pids[rank] = getpid();
  if (!crowded) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(static_cast<std::size_t>(rank), &one);
    sched_setaffinity(0, sizeof(one), &one);
  }
  meet();
  View view;
  view.epoch = Epoch{1};
  view.config.chunk_bytes = static_cast<std::uint32_t>(argument(2, 0));
  view.config.one_shot_bytes = static_cast<std::uint32_t>(argument(3, 0));
  for (int i = 0; i < size; ++i) view.members.push_back({MemberId{static_cast<std::uint64_t>(i) + 1}, 1, ""});
  const auto segments = connect(view, layout, std::vector<pid_t>(pids, pids + size));
  std::vector<const shm::Segment*> members;
  for (const auto& segment : segments) members.push_back(segment.get());
  shm::ShmGroup group(*segments[static_cast<std::size_t>(rank)], members, view);

  const std::size_t most = argument(5, 64 << 20);
  const std::size_t buffer = std::max<std::size_t>(most, 4096);
  auto* in = static_cast<float*>(std::aligned_alloc(4096, buffer));
  auto* out = static_cast<float*>(std::aligned_alloc(4096, buffer));
  for (std::size_t i = 0; i < buffer / 4; ++i) in[i] = static_cast<float>(rank + 1), out[i] = 0;
  std::uint64_t sequence = 0;
  for (std::size_t bytes = argument(4, 4); bytes <= most; bytes *= argument(6, 4))
    measure(group, sequence, bytes, in, out);
  meet();
  if (rank == size - 1)
    while (wait(nullptr) > 0) {
    }
  return 0;
}
