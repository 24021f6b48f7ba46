// A rank of the kill tests: makes collectives of random kind and size until the time is up, and records each result.
//
// Rank r of the founding view contributes 2^r (times a factor that depends on step and position), so that every element
// of a result proves whose values are in it. The plan of a step depends on the seed and the step alone. Records lie in
// a shared mapping of a file, which outlives a SIGKILL.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <hora/hora.hpp>
#include <map>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "records.h"

namespace {

using Clock = std::chrono::steady_clock;

using hora::test::Record;
using hora::test::Records;

struct Arguments {
  std::map<std::string, std::string> values;
  [[nodiscard]] std::string text(const std::string& name, const std::string& otherwise) const {
    const auto found = values.find(name);
    return found == values.end() ? otherwise : found->second;
  }
  [[nodiscard]] double number(const std::string& name, double otherwise) const {
    const auto found = values.find(name);
    return found == values.end() ? otherwise : std::stod(found->second);
  }
};

struct Part {
  std::string name;  // empty: ordered
  hora::Collective kind = hora::Collective::allreduce;
  bool floating = false;
  bool in_place = false;
  std::size_t count = 1;
};

// The operations of one step, the same on every rank.
std::vector<Part> plan(std::uint64_t seed, std::uint64_t step, const std::string& front, std::size_t bytes_most) {
  std::mt19937_64 random(seed * 1'000'003 + step);
  const auto one_in = [&](std::uint64_t n) { return random() % n == 0; };
  const auto make_part = [&](bool named, std::size_t index) {
    Part part;
    const std::uint64_t doublings = static_cast<std::uint64_t>(std::bit_width(bytes_most / 4));
    const std::size_t greatest = std::size_t{1} << (random() % doublings);  // as many small sizes as large ones
    part.count = std::min(bytes_most / 4, greatest + random() % greatest);
    part.floating = one_in(2);
    part.in_place = one_in(2);
    constexpr hora::Collective kOthers[] = {hora::Collective::allgather, hora::Collective::broadcast,
                                            hora::Collective::barrier};
    if (one_in(6)) part.kind = kOthers[random() % std::size(kOthers)];
    if (named && part.kind == hora::Collective::barrier) part.kind = hora::Collective::allreduce;
    // A name stands for one shape: what changes from step to step is in the name.
    if (named) part.name = "tensor." + std::to_string(index) + "." + std::to_string(step % 5);
    return part;
  };
  std::vector<Part> parts;
  const bool named = front == "negotiated" || (front == "mixed" && !one_in(3));
  const bool ordered = front == "ordered" || (front == "mixed" && (!named || one_in(2)));
  if (named) {
    // The plan of names repeats every five steps, as the tensors of a training do.
    random.seed(seed * 1'000'003 + step % 5);
    const std::size_t tensors = 1 + random() % 6;
    for (std::size_t i = 0; i < tensors; ++i) parts.push_back(make_part(true, i));
  }
  random.seed(seed * 2'000'003 + step);
  if (ordered) parts.push_back(make_part(false, 0));
  return parts;
}

std::int64_t factor(std::uint64_t step, std::size_t index) {
  return static_cast<std::int64_t>(1 + (step + index) % 1021);
}

// One operation in flight: its memory and what became of it.
template <typename T>
struct Buffers {
  std::vector<T> source;
  std::vector<T> target;
};

class Worker {
 public:
  Worker(hora::Communicator& comm, const Arguments& arguments)
      : comm_(comm),
        seed_(static_cast<std::uint64_t>(arguments.number("--seed", 1))),
        front_(arguments.text("--front", "mixed")),
        bytes_most_(static_cast<std::size_t>(arguments.number("--bytes-most", 16 << 20))),
        records_(arguments.text("--records", "records") + "." + std::to_string(comm.rank())),
        founding_rank_(comm.rank()),
        work_(std::chrono::duration_cast<Clock::duration>(
            std::chrono::duration<double>(arguments.number("--seconds", 1)))),
        ready_(arguments.text("--ready", "")) {}

  // Works for the time given, counted from when all ranks run.
  void run() {
    std::int32_t stop = 0;
    for (std::uint64_t step = 1; stop == 0; ++step) {
      record_ = Record{};
      make_step(step, plan(seed_, step, front_, bytes_most_));
      stop = agree_to_stop(step);
      record_.epoch = comm_.epoch().value;
      record_.step = step;
      records_.add(record_);
      if (step == kReadyStep) {
        end_ = Clock::now() + work_;
        announce("ready");
      }
    }
  }

  // "word rank pid" into the pipe that the test reads.
  void announce(const std::string& word) const {
    if (ready_.empty()) return;
    const int file = ::open(ready_.c_str(), O_WRONLY | O_CLOEXEC);
    const std::string line = word + " " + std::to_string(founding_rank_) + " " + std::to_string(::getpid()) + "\n";
    if (file < 0 || ::write(file, line.data(), line.size()) < 0) throw std::runtime_error("cannot write to " + ready_);
    ::close(file);
  }

 private:
  static constexpr std::uint64_t kReadyStep = 3;

  template <typename T>
  void fill(std::vector<T>& values, std::uint64_t step) const {
    for (std::size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>((std::int64_t{1} << founding_rank_) * factor(step, i));
  }

  void make_step(std::uint64_t step, const std::vector<Part>& parts) {
    std::vector<Buffers<std::int32_t>> integers(parts.size());
    std::vector<Buffers<float>> floats(parts.size());
    std::vector<hora::Handle> handles(parts.size());
    std::vector<std::size_t> places(parts.size());
    // Named ones in another order on every rank, then the ordered one, then all of the waiting.
    for (std::size_t i = 0; i < parts.size(); ++i)
      places[i] = (i + static_cast<std::size_t>(founding_rank_)) % parts.size();
    for (const std::size_t i : places) {
      if (parts[i].name.empty()) continue;
      handles[i] = parts[i].floating ? submit(parts[i], floats[i], step) : submit(parts[i], integers[i], step);
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Part& part = parts[i];
      part.floating ? finish(part, floats[i], handles[i], step) : finish(part, integers[i], handles[i], step);
    }
  }

  template <typename T>
  void allocate(const Part& part, Buffers<T>& buffers, std::uint64_t step) const {
    buffers.source.resize(part.count);
    fill(buffers.source, step);
    if (part.kind == hora::Collective::allgather)
      buffers.target.resize(part.count * static_cast<std::size_t>(comm_.size()));
    else if (part.kind == hora::Collective::allreduce && !part.in_place)
      buffers.target.resize(part.count);
  }

  // The last one: its rank changes with every death.
  [[nodiscard]] int root() const { return comm_.size() - 1; }

  template <typename T>
  hora::Handle submit(const Part& part, Buffers<T>& buffers, std::uint64_t step) {
    allocate(part, buffers, step);
    T* target = buffers.target.empty() ? buffers.source.data() : buffers.target.data();
    const hora::Tensor tensor{buffers.source.data(), target, part.count, hora::kDataTypeOf<T>, {}};
    if (part.kind == hora::Collective::allgather) return comm_.allgather_async(part.name, tensor);
    if (part.kind == hora::Collective::broadcast) return comm_.broadcast_async(part.name, tensor, root());
    return comm_.allreduce_async(part.name, tensor);
  }

  template <typename T>
  hora::Outcome call(const Part& part, Buffers<T>& buffers, std::uint64_t step) {
    if (part.kind == hora::Collective::barrier) return comm_.barrier();
    allocate(part, buffers, step);
    T* target = buffers.target.empty() ? buffers.source.data() : buffers.target.data();
    if (part.kind == hora::Collective::allgather)
      return comm_.allgather(buffers.source.data(), target, part.count, hora::kDataTypeOf<T>);
    if (part.kind == hora::Collective::broadcast)
      return comm_.broadcast(target, part.count, hora::kDataTypeOf<T>, root());
    return comm_.allreduce(buffers.source.data(), target, part.count, hora::kDataTypeOf<T>, hora::ReduceOp::sum);
  }

  template <typename T>
  void finish(const Part& part, Buffers<T>& buffers, hora::Handle& handle, std::uint64_t step) {
    try {
      const hora::Outcome outcome = part.name.empty() ? call(part, buffers, step) : handle.wait();
      record_.contributors = static_cast<std::uint64_t>(outcome.contributors);
    } catch (const hora::Error& error) {
      // An allgather may break, whose result has another size with fewer ranks, and a broadcast whose root is gone.
      const bool may_break = part.kind == hora::Collective::allgather || part.kind == hora::Collective::broadcast;
      if (error.code() != hora::StatusCode::peer_failed || !may_break) throw;
      ++record_.broken;
      return;
    }
    if (record_.time_ns == 0)
      record_.time_ns = static_cast<std::uint64_t>(std::chrono::nanoseconds(Clock::now().time_since_epoch()).count());
    if (part.kind == hora::Collective::barrier) return;
    if (part.kind == hora::Collective::allgather) {
      check_gathered(part, buffers.target, step);
    } else if (part.kind == hora::Collective::broadcast) {
      check_broadcast(buffers.source, step);
    } else {
      check_sum(buffers.target.empty() ? buffers.source : buffers.target, step);
      if (!buffers.target.empty()) check_untouched(buffers.source, step);
    }
    add_hash(buffers.target.empty() ? buffers.source : buffers.target);
  }

  template <typename T>
  void check_sum(const std::vector<T>& result, std::uint64_t step) {
    std::int64_t mask = 0;
    for (std::size_t i = 0; i < result.size(); ++i) {
      const std::int64_t value = static_cast<std::int64_t>(result[i]);
      if (value == mask * factor(step, i) && mask != 0) continue;
      mask = value / factor(step, i);
      if (mask <= 0 || mask > 63 || value != mask * factor(step, i))
        throw std::runtime_error("step " + std::to_string(step) + ": element " + std::to_string(i) + " of " +
                                 std::to_string(result.size()) + " is " + std::to_string(value) +
                                 ", which no set of ranks makes (factor " + std::to_string(factor(step, i)) + ")");
      record_.masks |= std::uint64_t{1} << mask;
    }
  }

  // All of one rank; its hash tells whether of the same one everywhere.
  template <typename T>
  void check_broadcast(const std::vector<T>& result, std::uint64_t step) const {
    const std::int64_t one = static_cast<std::int64_t>(result[0]) / factor(step, 0);
    bool holds = std::has_single_bit(static_cast<std::uint64_t>(one));
    for (std::size_t i = 0; i < result.size(); ++i) holds &= result[i] == static_cast<T>(one * factor(step, i));
    if (!holds) throw std::runtime_error("step " + std::to_string(step) + ": a broadcast is not one rank's");
  }

  template <typename T>
  void check_gathered(const Part& part, const std::vector<T>& result, std::uint64_t step) {
    std::int64_t mask = 0;
    for (std::size_t block = 0; block * part.count < result.size(); ++block) {
      const std::int64_t one = static_cast<std::int64_t>(result[block * part.count]) / factor(step, 0);
      for (std::size_t i = 0; i < part.count; ++i)
        if (static_cast<std::int64_t>(result[block * part.count + i]) != one * factor(step, i))
          throw std::runtime_error("step " + std::to_string(step) + ": block " + std::to_string(block) +
                                   " of an allgather is not one rank's");
      mask |= one;
    }
    if (std::popcount(static_cast<std::uint64_t>(mask)) != static_cast<int>(result.size() / part.count))
      throw std::runtime_error("step " + std::to_string(step) + ": a rank is missing from an allgather");
    record_.masks |= std::uint64_t{1} << mask;
  }

  template <typename T>
  void check_untouched(const std::vector<T>& source, std::uint64_t step) const {
    for (std::size_t i = 0; i < source.size(); ++i)
      if (source[i] != static_cast<T>((std::int64_t{1} << founding_rank_) * factor(step, i)))
        throw std::runtime_error("step " + std::to_string(step) + ": the source of an operation was written to");
  }

  template <typename T>
  void add_hash(const std::vector<T>& values) {
    for (const T value : values) record_.hash = (record_.hash ^ std::bit_cast<std::uint32_t>(value)) * 0x100000001b3U;
  }

  // Every rank looks at its own clock; the first to find the time up ends it for all, at the same step.
  std::int32_t agree_to_stop(std::uint64_t step) {
    std::int32_t stop = Clock::now() > end_ || records_.full() ? 1 : 0;
    const bool named = front_ == "negotiated" || (front_ == "mixed" && step % 2 == 0);
    if (named)
      comm_.allreduce_async("stop", std::span(&stop, 1), hora::ReduceOp::max).wait();
    else
      comm_.allreduce(std::span(&stop, 1), hora::ReduceOp::max);
    return stop;
  }

  hora::Communicator& comm_;
  std::uint64_t seed_;
  std::string front_;
  std::size_t bytes_most_;
  Records records_;
  int founding_rank_;
  Clock::duration work_;
  std::string ready_;
  Clock::time_point end_ = Clock::time_point::max();
  Record record_;
};

// As much memory as a real training process has: freeing it is what makes a death slow to be seen.
void hold_memory(std::size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory to hold");
  std::memset(memory, 1, bytes);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i + 1 < argc; i += 2) arguments.values[argv[i]] = argv[i + 1];
  int rank = -1;
  try {
    hora::Communicator comm = hora::Communicator::init();
    rank = comm.rank();
    if (arguments.text("--transport", "") == "mpi" && comm.view().config.transport != hora::Transport::mpi)
      throw std::runtime_error("the transport is not MPI");
    const double gigabytes = arguments.number("--gigabytes", 0);
    if (gigabytes > 0 && rank == static_cast<int>(arguments.number("--holder", -1)))
      hold_memory(static_cast<std::size_t>(gigabytes * (1U << 30U)));
    Worker worker(comm, arguments);
    worker.run();
    comm.flush();
    comm.shutdown();
    worker.announce("end");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kill_worker: founding rank %d: %s\n", rank, error.what());
    return 3;
  }
}
