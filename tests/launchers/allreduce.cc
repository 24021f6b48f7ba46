// The program that must say the same whoever starts it: one operation of each kind, and what came of it, said by rank
// 0. allreduce.py is its twin.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <hora/hora.hpp>
#include <numeric>
#include <span>
#include <vector>

namespace {

constexpr std::size_t kCount = 1000;

std::vector<float> values_of(int rank) {
  std::vector<float> values(kCount);
  for (std::size_t i = 0; i < kCount; ++i) values[i] = static_cast<float>((rank + 1) * (1 + static_cast<int>(i % 97)));
  return values;
}

void say(const char* what, const std::vector<float>& values) {
  const double total = std::accumulate(values.begin(), values.end(), 0.0);
  std::printf("%s: first %.1f, last %.1f, total %.1f\n", what, values.front(), values.back(), total);
}

void say(const char* what, const std::vector<std::int32_t>& values) {
  std::printf("%s:", what);
  for (const std::int32_t value : values) std::printf(" %d", value);
  std::printf("\n");
}

std::vector<std::int32_t> gather(hora::Communicator& comm, std::int32_t value) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(comm.size()));
  comm.allgather(std::span<const std::int32_t>(&value, 1), std::span(all));
  return all;
}

void run(hora::Communicator& comm) {
  std::vector<float> sum = values_of(comm.rank()), greatest = sum, average = sum, sent = sum;
  comm.allreduce(std::span(sum));
  comm.allreduce(std::span(greatest), hora::ReduceOp::max);
  comm.allreduce_async("average", std::span(average), hora::ReduceOp::average).wait();
  comm.broadcast(std::span(sent), comm.size() - 1);
  const auto ranks = gather(comm, comm.rank());
  auto local_ranks = gather(comm, comm.local_rank());  // in whatever order the launcher gave them
  std::sort(local_ranks.begin(), local_ranks.end());
  const auto local_sizes = gather(comm, comm.local_size());
  if (comm.rank() != 0) return;
  std::printf("%d ranks\n", comm.size());
  say("sum", sum);
  say("max", greatest);
  say("average", average);
  say("broadcast", sent);
  say("ranks", ranks);
  say("local ranks", local_ranks);
  say("local sizes", local_sizes);
}

}  // namespace

int main() {
  try {
    hora::Communicator comm = hora::Communicator::init();
    run(comm);
    comm.shutdown();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
