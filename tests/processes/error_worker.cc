// A rank that makes one mistake, tells what came of it, and proves that the job still works.
//
//   error_worker SCENARIO [--ready PIPE] [--gate PIPE]
//
// Prints "rank R: CODE: message" for each error. `gate` is a pipe from which a rank that waits reads a byte.
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <hora/hora.hpp>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Rank {
  hora::Communicator comm;
  std::string ready;
  std::string gate;

  [[nodiscard]] bool last() const { return comm.rank() == comm.size() - 1; }

  void announce(const std::string& word) const {
    const int file = ::open(ready.c_str(), O_WRONLY | O_CLOEXEC);
    const std::string line = word + " " + std::to_string(comm.rank()) + " " + std::to_string(::getpid()) + "\n";
    if (file < 0 || ::write(file, line.data(), line.size()) < 0) throw std::runtime_error("cannot write to " + ready);
    ::close(file);
  }

  // Sleeps in the kernel until the test lets it go on.
  void pass_gate() const {
    const int file = ::open(gate.c_str(), O_RDONLY | O_CLOEXEC);
    char byte = 0;
    if (file < 0 || ::read(file, &byte, 1) != 1) throw std::runtime_error("cannot read from " + gate);
    ::close(file);
  }

  void expect_error(const std::function<void()>& action) const {
    try {
      action();
      std::printf("rank %d: no error\n", comm.rank());
    } catch (const hora::Error& error) {
      std::printf("rank %d: %s\n", comm.rank(), error.what());
    }
  }

  void prove_alive() {
    std::int32_t one = 1;
    comm.allreduce(std::span(&one, 1));
    std::int32_t named = 1;
    comm.allreduce_async("proof", std::span(&named, 1)).wait();
    if (one != comm.size() || named != comm.size()) throw std::runtime_error("a wrong sum after the error");
    std::printf("rank %d: goes on\n", comm.rank());
  }
};

void different_shapes(Rank& rank) {
  std::vector<float> values(static_cast<std::size_t>(rank.comm.rank()) + 4);
  rank.expect_error([&] { rank.comm.allreduce_async("weights", std::span(values)).wait(); });
}

void different_dtypes(Rank& rank) {
  std::vector<float> floats(4);
  std::vector<std::int32_t> integers(4);
  rank.expect_error([&] {
    (rank.comm.rank() == 0 ? rank.comm.allreduce_async("weights", std::span(floats))
                           : rank.comm.allreduce_async("weights", std::span(integers)))
        .wait();
  });
}

void different_ops(Rank& rank) {
  std::vector<float> values(4);
  const hora::ReduceOp op = rank.last() ? hora::ReduceOp::max : hora::ReduceOp::sum;
  rank.expect_error([&] { rank.comm.allreduce_async("weights", std::span(values), op).wait(); });
}

void different_collectives(Rank& rank) {
  std::vector<float> values(4);
  rank.expect_error([&] {
    (rank.last() ? rank.comm.broadcast_async("weights", std::span(values), 0)
                 : rank.comm.allreduce_async("weights", std::span(values)))
        .wait();
  });
}

void different_roots(Rank& rank) {
  std::vector<float> values(4);
  rank.expect_error([&] { rank.comm.broadcast_async("weights", std::span(values), rank.comm.rank()).wait(); });
}

void ordered_counts(Rank& rank) {
  std::vector<float> values(rank.last() ? 5 : 4);
  rank.expect_error([&] { rank.comm.allreduce(std::span(values)); });
}

void ordered_calls(Rank& rank) {
  std::vector<float> values(4);
  rank.expect_error([&] {
    if (rank.last())
      rank.comm.barrier();
    else
      rank.comm.allreduce(std::span(values));
  });
}

void duplicate_name(Rank& rank) {
  std::vector<float> values(4);
  std::vector<float> more(4);
  // Rank 0 has not submitted yet, so the first one is in flight everywhere else.
  if (rank.comm.rank() == 0) rank.pass_gate();
  hora::Handle first = rank.comm.allreduce_async("weights", std::span(values));
  if (rank.comm.rank() != 0) {
    rank.expect_error([&] { rank.comm.allreduce_async("weights", std::span(more)).wait(); });
    rank.announce("failed");
  }
  first.wait();
}

void absent_rank(Rank& rank) {
  std::vector<float> values(4);
  if (rank.last()) {
    rank.pass_gate();
    return;
  }
  rank.expect_error([&] { rank.comm.allreduce_async("weights", std::span(values)).wait(); });
  rank.announce("failed");
}

void idle(Rank& rank) {
  rank.announce("idle");
  rank.pass_gate();
}

const std::map<std::string, void (*)(Rank&)> kScenarios = {
    {"different_shapes", different_shapes},
    {"different_dtypes", different_dtypes},
    {"different_ops", different_ops},
    {"different_collectives", different_collectives},
    {"different_roots", different_roots},
    {"ordered_counts", ordered_counts},
    {"ordered_calls", ordered_calls},
    {"duplicate_name", duplicate_name},
    {"absent_rank", absent_rank},
    {"idle", idle},
    {"start", [](Rank&) {}},
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> values;
  for (int i = 2; i + 1 < argc; i += 2) values[argv[i]] = argv[i + 1];
  const auto scenario = kScenarios.find(argc > 1 ? argv[1] : "");
  if (scenario == kScenarios.end()) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  try {
    Rank rank{hora::Communicator::init(), values["--ready"], values["--gate"]};
    rank.prove_alive();
    scenario->second(rank);
    rank.prove_alive();
    rank.comm.shutdown();
    return 0;
  } catch (const hora::Error& error) {
    std::printf("process failed: %s\n", error.what());
    return 3;
  } catch (const std::exception& error) {
    std::printf("process failed otherwise: %s\n", error.what());
    return 4;
  }
}
