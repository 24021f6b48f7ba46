// The last rank kills itself; the others finish the call that it interrupted, and go on in the same processes.
//
//   hora run -np 3 --min-np 2 build/release/examples/03_in_place_recovery
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <hora/hora.hpp>
#include <vector>

int main() {
  constexpr int kSteps = 10;
  constexpr int kDeath = 5;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what the victim printed shall not die with it
  auto comm = hora::Communicator::init();
  const bool victim = comm.size() > 1 && comm.rank() == comm.size() - 1;
  comm.on_view_change([&](const hora::View& before, const hora::View& after) {
    std::printf("view %llu with %d ranks follows view %llu with %d; this is rank %d now\n",
                static_cast<unsigned long long>(after.epoch.value), after.size(),
                static_cast<unsigned long long>(before.epoch.value), before.size(), comm.rank());
  });

  std::vector<float> ones(1 << 20);
  for (int step = 1; step <= kSteps; ++step) {
    std::ranges::fill(ones, 1.0F);
    if (victim && step == kDeath) std::raise(SIGKILL);
    const hora::Outcome outcome = comm.allreduce(std::span(ones));
    std::printf("step %d: %g from %d ranks\n", step, ones[0], outcome.contributors);
  }
  comm.flush();  // from here on no failure can undo a step: the place to write a checkpoint
  comm.shutdown();
}
