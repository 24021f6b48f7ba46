// Ranks that die are replaced, and the newcomers go on where the others are:
//
//   hora run -np 3 --min-np 2 --max-restarts 4 build/release/examples/04_elastic
//
// While it runs, kill one of its processes from another terminal. Nothing restarts: the newcomer receives the
// registered state, catches up, and enters between two steps.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <hora/hora.hpp>
#include <thread>
#include <vector>

int main(int argc, char** argv) {
  const long steps = argc > 1 ? std::atol(argv[1]) : 200;
  const auto pause = std::chrono::milliseconds(argc > 2 ? std::atol(argv[2]) : 50);  // stands for the work of a step
  hora::Communicator comm = hora::Communicator::init();
  std::vector<float> weights(1000, 1.0F);
  long step = 0;
  comm.register_state("weights", std::span(weights));
  comm.register_state("step", std::span(&step, 1));
  comm.on_view_change([&](const hora::View& before, const hora::View& after) {
    if (comm.rank() == 0 && !comm.observing())
      std::printf("step %ld: from %d to %d ranks\n", step, before.size(), after.size()), std::fflush(stdout);
  });

  comm.step();
  while (step < steps) {
    if (!comm.observing()) std::this_thread::sleep_for(pause);
    std::vector<float> gradient(weights.size(), 0.5F);
    comm.allreduce(std::span(gradient), hora::ReduceOp::average);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] -= 0.001F * gradient[i];
    ++step;
    comm.step();
  }
  if (comm.rank() == 0)
    std::printf("%ld steps, weights are %.4f, %d ranks at the end\n", step, weights[0], comm.size());
  comm.shutdown();
}
