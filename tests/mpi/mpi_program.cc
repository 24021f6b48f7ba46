// A program that uses MPI itself, beside hora over MPI:
//
//   mpirun -np N mpi_program LEVEL
//
// LEVEL: none (hora starts MPI), early (the same, and rank 0 leaves while the others go on), init (MPI_Init),
// serialized, multiple, or elsewhere (MPI_Init, but hora is used in another thread). Each rank prints the sum of all
// results, which is the same on all.
#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <hora/hora.hpp>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error(what);
}

// Small and large ones, ordered and named; the named ones are left to the background for a while.
std::int64_t work(hora::Communicator& comm) {
  std::int64_t total = 0;
  for (std::size_t count = 1; count <= std::size_t{1} << 20; count *= 8) {
    std::vector<std::int64_t> ordered(count, comm.rank() + 1), named(count, 10 * (comm.rank() + 1));
    hora::Handle pending = comm.allreduce_async("named", std::span(named));
    comm.allreduce(std::span(ordered));
    pending.wait();
    for (std::size_t i = 0; i < count; ++i) {
      require(named[i] == 10 * ordered[i], "a wrong sum");
      total += ordered[i];
    }
  }
  return total;
}

std::int64_t use_hora(bool rank_0_leaves_early) {
  hora::Communicator comm = hora::Communicator::init();
  require(comm.view().config.transport == hora::Transport::mpi, "the transport is not MPI");
  const std::int64_t total = work(comm);
  std::printf("rank %d of %d: %lld\n", comm.rank(), comm.size(), static_cast<long long>(total));
  const int founders = comm.size();
  if (rank_0_leaves_early && comm.rank() != 0) {
    while (comm.size() == founders) comm.barrier();
    work(comm);
  }
  comm.shutdown();
  return total;
}

void initialise(const std::string& level) {
  const std::map<std::string, int> levels = {{"serialized", MPI_THREAD_SERIALIZED}, {"multiple", MPI_THREAD_MULTIPLE}};
  const auto found = levels.find(level);
  int provided = 0;
  if (found == levels.end())
    MPI_Init(nullptr, nullptr);
  else
    MPI_Init_thread(nullptr, nullptr, found->second, &provided);
  require(found == levels.end() || provided >= found->second, "this MPI has no such level");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return std::fputs("usage: mpi_program LEVEL\n", stderr), 2;
  const std::string level = argv[1];
  try {
    if (level == "none" || level == "early") {
      use_hora(level == "early");
      int finalized = 0;
      MPI_Finalized(&finalized);
      require(finalized != 0, "hora has not finalized the MPI that it started");
      return 0;
    }
    initialise(level);
    std::int64_t total = 0;
    std::string failed;
    if (level == "elsewhere") {
      std::thread other([&] {
        try {
          use_hora(false);
        } catch (const std::exception& error) {
          failed = error.what();
        }
      });
      other.join();
    } else {
      total = use_hora(false);
    }
    require(failed.empty(), failed);
    // MPI is the program's own, still.
    std::int64_t most = 0;
    MPI_Allreduce(&total, &most, 1, MPI_INT64_T, MPI_MAX, MPI_COMM_WORLD);
    require(most == total, "ranks have other results");
    MPI_Finalize();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpi_program: %s\n", error.what());
    return 1;
  }
}
