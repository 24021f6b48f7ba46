#include "perf/runner.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>

namespace hora::perf {

namespace {

constexpr std::size_t kLineBytes = 64;
constexpr int kRoot = 0;

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point begin) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
}

}  // namespace

PageBuffer::PageBuffer(std::size_t bytes) : bytes_(std::max<std::size_t>(bytes, 1)) {
  void* base = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (base == MAP_FAILED) throw Error(Status(StatusCode::resource, fmt::format("no memory for {} bytes", bytes)));
  base_ = static_cast<std::byte*>(base);
}

PageBuffer::~PageBuffer() {
  ::munmap(base_, bytes_);
}

Runner::Runner(Communicator& comm, MeetingPoint& meeting, const RunOptions& options, std::uint64_t bytes_most,
               bool crowded)
    : comm_(comm),
      meeting_(meeting),
      options_(options),
      rank_(comm.rank()),
      ranks_(comm.size()),
      epoch_(comm.epoch()),
      crowded_(crowded),
      source_(bytes_most),
      target_(bytes_most) {}

SizeResult Runner::measure(std::uint64_t bytes) {
  const int calls = calls_for(options_, bytes, crowded_);
  SizeResult result;
  result.bytes = bytes;
  for (const Placement placement : options_.placements) {
    const Call call = call_of(bytes, placement);
    result.count = call.count;
    (placement == Placement::in_place ? result.in_place : result.out_of_place) = measure_call(call, calls);
  }
  if (bytes != 0) result.memcpy_p50_us = measure_memcpy(bytes, std::min(calls, bytes < 1 << 20 ? 51 : 9));
  return result;
}

Runner::Call Runner::call_of(std::uint64_t bytes, Placement placement) const {
  const std::uint64_t given =
      options_.kind == Collective::allgather ? bytes / static_cast<std::uint64_t>(ranks_) : bytes;
  const auto target = target_.first(bytes);
  const auto own = options_.kind == Collective::allgather ? static_cast<std::size_t>(rank_) * given : 0;
  const auto source = placement == Placement::in_place ? target.subspan(own, given) : source_.first(given);
  return {source, target, given / size_of(options_.dtype), fmt::format("perf.{}.{}", bytes, to_string(placement))};
}

void Runner::perform(const Call& call) {
  const bool ordered = options_.front == Front::ordered;
  const Tensor tensor = {call.source.data(), call.target.data(), call.count, options_.dtype, {}};
  const Tensor in_place = {call.target.data(), call.target.data(), call.count, options_.dtype, {}};
  Outcome outcome;
  switch (options_.kind) {
    case Collective::allreduce:
      outcome = ordered ? comm_.allreduce(tensor.source, tensor.target, tensor.count, tensor.dtype, options_.op)
                        : comm_.allreduce(call.name, tensor, options_.op);
      break;
    case Collective::broadcast:
      outcome = ordered ? comm_.broadcast(tensor.target, tensor.count, tensor.dtype, kRoot)
                        : comm_.broadcast_async(call.name, in_place, kRoot).wait();
      break;
    case Collective::allgather:
      outcome = ordered ? comm_.allgather(tensor.source, tensor.target, tensor.count, tensor.dtype)
                        : comm_.allgather_async(call.name, tensor).wait();
      break;
    case Collective::barrier: outcome = comm_.barrier(); break;
  }
  if (outcome.epoch != epoch_) {
    throw Error(Status(StatusCode::peer_failed, "the view changed during the measurement; its times mean nothing"));
  }
}

Measurement Runner::measure_call(const Call& call, int calls) {
  Measurement measured;
  std::uint64_t wrong = verify(call);
  std::vector<double> times_us(static_cast<std::size_t>(calls));
  const int warm_up = calls / 10 + 12;
  for (int i = -warm_up; i < calls; ++i) {
    dirty(call);
    meeting_.meet();
    const auto begin = Clock::now();
    perform(call);
    const double time_us = microseconds_since(begin);
    // Nobody dirties lines that a slower rank is still reading.
    meeting_.meet();
    wrong += count_wrong_samples(call);
    if (i >= 0) times_us[static_cast<std::size_t>(i)] = time_us;
  }
  measured.time_us = slowest_of_ranks(std::move(times_us));
  measured.back_to_back_us = measure_back_to_back(call, calls);
  wrong += verify(call);
  std::vector<std::int64_t> sum = {static_cast<std::int64_t>(wrong)};
  comm_.allreduce(std::span(sum), ReduceOp::sum);
  measured.wrong = static_cast<std::uint64_t>(sum[0]);
  return measured;
}

Pattern Runner::inputs_of(int rank) const {
  return Pattern(options_.dtype,
                 [&](std::uint64_t position) { return input_value(options_.op, rank, position, salt_); });
}

double Runner::expected_value(int block, std::uint64_t position) const {
  if (options_.kind == Collective::allreduce) return reduced_value(options_.op, ranks_, position, salt_);
  return input_value(options_.op, options_.kind == Collective::broadcast ? kRoot : block, position, salt_);
}

std::uint64_t Runner::verify(const Call& call) {
  if (options_.kind == Collective::barrier) return 0;
  ++salt_;
  constexpr auto kPoison = std::byte{0xa5};
  std::fill(call.target.begin(), call.target.end(), kPoison);
  // A broadcast gets its poison everywhere but on the root.
  if (options_.kind != Collective::broadcast || rank_ == kRoot) inputs_of(rank_).fill(call.source);
  perform(call);
  const int blocks = options_.kind == Collective::allgather ? ranks_ : 1;
  const std::size_t block_bytes = call.target.size() / static_cast<std::size_t>(blocks);
  std::uint64_t wrong = 0;
  for (int block = 0; block < blocks; ++block) {
    const auto part = call.target.subspan(static_cast<std::size_t>(block) * block_bytes, block_bytes);
    const Pattern wanted(options_.dtype, [&](std::uint64_t position) { return expected_value(block, position); });
    wrong += wanted.count_wrong(part, tolerance_ulps(options_.op));
  }
  return wrong;
}

// Writes to every line of the source. In place all of it is written again: sums of sums would leave the type's range.
void Runner::dirty(const Call& call) {
  if (options_.kind == Collective::barrier) return;
  ++salt_;
  const Pattern inputs = inputs_of(rank_);
  if (call.source.data() == call.target.data()) return inputs.fill(call.source);
  const std::size_t line = kLineBytes / size_of(options_.dtype);
  for (std::uint64_t at = 0; at < call.count; at += line) {
    const auto element = inputs.element(at);
    std::memcpy(call.source.data() + at * element.size(), element.data(), element.size());
  }
}

// Looks at the first, the middle and the last line that dirty() wrote to, of each block of the result.
std::uint64_t Runner::count_wrong_samples(const Call& call) const {
  if (options_.kind == Collective::barrier) return 0;
  const std::uint64_t line = kLineBytes / size_of(options_.dtype);
  const std::uint64_t lines = (call.count + line - 1) / line;
  const int blocks = options_.kind == Collective::allgather ? ranks_ : 1;
  std::uint64_t wrong = 0;
  for (int block = 0; block < blocks; ++block) {
    const std::uint64_t begin = static_cast<std::uint64_t>(block) * call.count;
    for (const std::uint64_t at : {std::uint64_t{0}, lines / 2 * line, (lines - 1) * line}) {
      const std::byte* element = call.target.data() + (begin + at) * size_of(options_.dtype);
      if (!is_right(element, options_.dtype, expected_value(block, at), tolerance_ulps(options_.op))) ++wrong;
    }
  }
  return wrong;
}

double Runner::measure_back_to_back(const Call& call, int calls) {
  // Zero stays zero however often it is reduced in place.
  std::fill(call.source.begin(), call.source.end(), std::byte{0});
  meeting_.meet();
  const auto begin = Clock::now();
  for (int i = 0; i < calls; ++i) perform(call);
  return slowest_of_ranks({microseconds_since(begin) / calls}).max;
}

double Runner::measure_memcpy(std::uint64_t bytes, int calls) {
  const auto source = source_.first(bytes);
  const auto target = target_.first(bytes);
  std::vector<double> times_us(static_cast<std::size_t>(calls));
  for (double& time_us : times_us) {
    for (std::size_t at = 0; at < source.size(); at += kLineBytes) source[at] ^= std::byte{1};
    meeting_.meet();
    const auto begin = Clock::now();
    std::memcpy(target.data(), source.data(), source.size());
    // The compiler must believe that somebody reads the copy.
    asm volatile("" : : "r"(target.data()) : "memory");
    time_us = microseconds_since(begin);
    meeting_.meet();
  }
  return slowest_of_ranks(std::move(times_us)).p50;
}

// `times_us` has one entry a call; that of the slowest rank counts.
Summary Runner::slowest_of_ranks(std::vector<double> times_us) {
  comm_.allreduce(std::span(times_us), ReduceOp::max);
  return summarize(std::move(times_us));
}

}  // namespace hora::perf
