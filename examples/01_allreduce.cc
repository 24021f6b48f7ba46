// The smallest program: every rank gives a number, all get the sum.
//
//   hora run -np 4 build/release/examples/01_allreduce
#include <cstdio>
#include <hora/hora.hpp>
#include <vector>

int main() {
  auto comm = hora::Communicator::init();
  std::vector<float> values(1024, static_cast<float>(comm.rank() + 1));
  const hora::Outcome outcome = comm.allreduce(std::span(values));
  std::printf("rank %d of %d: sum %g of %d ranks\n", comm.rank(), comm.size(), values[0], outcome.contributors);
  comm.shutdown();
}
