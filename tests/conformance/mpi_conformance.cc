// The conformance suite over MPI, in each of the processes that mpirun starts:
//
//   mpirun -np 5 mpi_conformance LEVEL PLUGIN [options of Catch2]
//
// LEVEL: multiple, in which case every operation is driven by a thread of its own, or funneled: all by one thread.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "implementation.h"
#include "mpi_job.h"

namespace hora::conformance {
namespace {

constexpr std::string_view kFixed = "each rank is a process of one MPI, which does not outlive a death";

std::uint64_t one_host(int, int) {
  return 1;
}
std::uint64_t half_host(int rank, int size) {
  return rank < size / 2 ? 1 : 2;
}

constexpr int kSizeMost = 5;
constexpr Implementation kImplementations[] = {
    {"schedules over MPI", make_mpi_job, kSizeMost, one_host, 1, kFixed},
    {"two levels over MPI", make_mpi_job, kSizeMost, half_host, 1, kFixed},
};

int run(mpi::Library& library, int argc, char** argv) {
  use_library(library);
  Catch::Session session;
  // The cases of all processes go together: after a failure in one of them they no longer do.
  session.configData().abortAfter = 1;
  session.configData().useColour = Catch::UseColour::No;  // mpirun's pipe looks like a terminal
  if (const int wrong = session.applyCommandLine(argc, argv); wrong != 0) return wrong;
  // One process speaks for all; the others only of what fails.
  if (library.rank() != 0) {
    session.configData().reporterName = "compact";
    session.configData().testsOrTags = {"~[elastic]"};
  }
  return session.run();
}

}  // namespace

std::span<const Implementation> implementations() {
  return kImplementations;
}

}  // namespace hora::conformance

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("usage: mpi_conformance multiple|funneled PLUGIN [OPTION]...\n", stderr), 2;
  const bool multiple = std::string_view(argv[1]) == "multiple";
  auto library = hora::mpi::Library::start(argv[2], multiple ? HORA_MPI_THREAD_MULTIPLE : HORA_MPI_THREAD_FUNNELED);
  if (!library.ok()) return std::fprintf(stderr, "%s\n", library.status().to_string().c_str()), 1;
  if (library.value()->size() != hora::conformance::kSizeMost)
    return std::fprintf(stderr, "%d processes, not %d\n", library.value()->size(), hora::conformance::kSizeMost), 1;
  // Without MPI_Finalize, which would wait for the others, mpirun ends them.
  if (hora::conformance::run(*library.value(), argc - 2, argv + 2) != 0) std::_Exit(1);
  return library.value()->finish().ok() ? 0 : 1;
}
