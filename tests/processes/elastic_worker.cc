// A rank of the rejoin tests: a training in miniature with registered state, which newcomers join.
//
// The state after a step is a function of all results so far, and its hash is recorded: two processes that recorded the
// same step with the same hash have seen the same results. Every rank contributes one, so a sum is the number of its
// contributors.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <hora/hora.hpp>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "records.h"

namespace {

using Clock = std::chrono::steady_clock;

// Wraps around: every bit depends on every result.
std::uint64_t mix(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
  return hash ^ hash >> 29;
}

std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
}

Clock::duration seconds(const std::string& text) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(std::stod(text)));
}

class Worker {
 public:
  Worker(hora::Communicator& comm, int process, std::map<std::string, std::string>& arguments)
      : comm_(comm),
        process_(std::to_string(process)),
        records_(arguments["--records"] + "." + process_),
        ready_(::open(arguments["--ready"].c_str(), O_WRONLY | O_CLOEXEC)),
        size_whole_(std::stoi(arguments["--size"])),
        work_(seconds(arguments["--seconds"])),
        patience_(seconds(arguments["--patience"])),
        pause_ms_(std::stoi(arguments["--pause-ms"])),
        ordered_(std::stoul(arguments["--bytes"]) / sizeof(double)),
        named_(3, std::vector<double>(ordered_.size() / 4 + 1)),
        ballast_(std::stoul(arguments["--state-bytes"])) {
    std::fill(ballast_.begin(), ballast_.end(), static_cast<std::uint8_t>(comm.observing() ? 0 : 7));
    comm_.register_state("progress", std::span(&progress_, 1));
    comm_.register_state("ballast", std::span(ballast_));
  }

  void run() {
    if (process_ == "0") print_copy_time();
    announce("ready");
    comm_.step();
    bool observing = comm_.observing();
    check_ballast();
    deadline_ = Clock::now() + work_;  // from when the state is there, however large it is
    announce("running");
    while (progress_.last == 0) {
      const std::uint64_t first_ns = one_step();
      comm_.step();
      if (observing && !comm_.observing()) announce("entered");
      observing = comm_.observing();
      if (!observing) record(first_ns);
    }
    comm_.flush();
    announce("end");
  }

 private:
  struct Progress {
    std::uint64_t step = 0;
    std::uint64_t hash = 1;
    std::uint64_t last = 0;  // not 0: the ranks agreed to end
  };

  void announce(const char* word) const {
    const std::string line = std::string(word) + " " + process_ + " " + std::to_string(::getpid()) + "\n";
    if (::write(ready_, line.data(), line.size()) < 0) throw std::runtime_error("cannot announce");
  }

  // What joining is to be compared with: a copy of the state into memory that was touched before.
  void print_copy_time() const {
    std::vector<std::uint8_t> copy(ballast_.size(), 1);
    const std::uint64_t begin = now_ns();
    std::memcpy(copy.data(), ballast_.data(), copy.size());
    std::printf("copy of %zu bytes: %.3f ms\n", copy.size(), static_cast<double>(now_ns() - begin) * 1e-6);
    std::fflush(stdout);
    if (copy.back() != ballast_.back()) throw std::runtime_error("a copy differs");
  }

  void check_ballast() const {
    if (std::any_of(ballast_.begin(), ballast_.end(), [](std::uint8_t byte) { return byte != 7; }))
      throw std::runtime_error("the state is not that of the members");
  }

  // Two fronts, and a vote: the job ends when the time is up and the world is whole, or when patience is over.
  std::uint64_t one_step() {
    if (!comm_.observing() && pause_ms_ > 0) ::poll(nullptr, 0, pause_ms_);  // stands for an accelerator's work
    std::vector<hora::Handle> handles;
    for (std::size_t i = 0; i < named_.size(); ++i) {
      std::fill(named_[i].begin(), named_[i].end(), 1.0);
      handles.push_back(comm_.allreduce_async("tensor" + std::to_string(i), std::span(named_[i])));
    }
    std::fill(ordered_.begin(), ordered_.end(), 1.0);
    outcome_ = comm_.allreduce(std::span<double>(ordered_));
    const std::uint64_t first_ns = now_ns();
    take(ordered_, outcome_);
    for (std::size_t i = 0; i < named_.size(); ++i) {
      const hora::Outcome outcome = handles[i].wait();
      take(named_[i], outcome);
    }
    const Clock::time_point now = Clock::now();
    std::int32_t vote[2] = {now > deadline_ ? 1 : 0, now > deadline_ + patience_ ? 1 : 0};
    outcome_ = comm_.allreduce(std::span<std::int32_t>(vote), hora::ReduceOp::max);
    progress_.last = vote[1] != 0 || (vote[0] != 0 && outcome_.contributors == size_whole_) ? 1 : 0;
    ++progress_.step;
    return first_ns;
  }

  void take(const std::vector<double>& result, const hora::Outcome& outcome) {
    for (const double value : result) {
      progress_.hash = mix(progress_.hash, static_cast<std::uint64_t>(value));
    }
    if (result.back() < 1 || result.back() > 64) throw std::runtime_error("a sum of ones is not a number of ranks");
    progress_.hash = mix(progress_.hash, outcome.epoch.value);
  }

  void record(std::uint64_t first_ns) {
    hora::test::Record record;
    record.epoch = comm_.epoch().value;
    record.contributors = static_cast<std::uint64_t>(outcome_.contributors);
    record.hash = progress_.hash;
    record.time_ns = first_ns;
    record.step = progress_.step;
    records_.add(record);
    if (records_.full()) progress_.last = 1;
  }

  hora::Communicator& comm_;
  const std::string process_;
  hora::test::Records records_;
  const int ready_;
  const int size_whole_;
  const Clock::duration work_, patience_;
  Clock::time_point deadline_;
  const int pause_ms_;
  std::vector<double> ordered_;
  std::vector<std::vector<double>> named_;
  std::vector<std::uint8_t> ballast_;
  Progress progress_;
  hora::Outcome outcome_;
};

int run(std::map<std::string, std::string> arguments) {
  auto options = hora::Options::from_environment();
  if (!options.ok()) throw hora::Error(options.status());
  hora::Communicator comm = hora::Communicator::init(options.value());
  Worker worker(comm, options->process, arguments);
  worker.run();
  comm.shutdown();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> arguments{
      {"--records", "records"},   {"--ready", "/dev/null"}, {"--size", "1"},
      {"--seconds", "1"},         {"--patience", "10"},     {"--bytes", "4096"},
      {"--state-bytes", "65536"}, {"--pause-ms", "0"}};
  for (int i = 1; i + 1 < argc; i += 2) arguments[argv[i]] = argv[i + 1];
  try {
    return run(std::move(arguments));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "elastic_worker: %s\n", error.what());
    return 1;
  }
}
