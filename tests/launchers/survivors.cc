// survivors VICTIM...: ranks that kill themselves between two steps, and what the others come to. Rank r contributes
// 2^r, so a sum says whose values are in it. The first survivor says how many hold the same results.
#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <hora/hora.hpp>
#include <set>
#include <span>
#include <vector>

namespace {

constexpr int kSteps = 60, kFatalStep = 20;

// FNV-1a.
std::uint64_t hash(std::uint64_t before, std::span<const std::int32_t> values) {
  for (const std::byte byte : std::as_bytes(values))
    before = (before ^ std::to_integer<std::uint64_t>(byte)) * 0x100000001b3U;
  return before;
}

std::int64_t work(hora::Communicator& comm, bool victim) {
  const std::int32_t share = 1 << comm.rank();  // of the founding view
  std::uint64_t result = 0xcbf29ce484222325U;
  for (int step = 0; step < kSteps; ++step) {
    if (victim && step == kFatalStep) ::raise(SIGKILL);
    // In place and in chunks, and small and out of place, by turns.
    std::vector<std::int32_t> data(step % 2 == 0 ? 300'000 : 100, share);
    std::vector<std::int32_t> sum(data.size());
    if (step % 2 == 0) {
      comm.allreduce(std::span(data));
      sum.swap(data);
    } else {
      comm.allreduce(std::span<const std::int32_t>(data), std::span(sum));
    }
    result = hash(result, sum);
  }
  return static_cast<std::int64_t>(result);
}

}  // namespace

int main(int argc, char** argv) {
  std::set<int> victims;
  for (int i = 1; i < argc; ++i) victims.insert(std::atoi(argv[i]));
  try {
    hora::Communicator comm = hora::Communicator::init();
    const int before = comm.size();
    const std::int64_t result = work(comm, victims.contains(comm.rank()));
    std::vector<std::int64_t> results(static_cast<std::size_t>(comm.size()));
    comm.allgather(std::span<const std::int64_t>(&result, 1), std::span(results));
    bool equal = true;
    for (const std::int64_t other : results) equal = equal && other == result;
    if (comm.rank() == 0)
      std::printf("%d of %d ranks are left, with %s results\n", comm.size(), before, equal ? "equal" : "different");
    comm.shutdown();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
