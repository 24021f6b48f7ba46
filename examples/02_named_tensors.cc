// The negotiated front: ranks submit named tensors in different orders; what is ready everywhere is fused and reduced.
//
//   hora run -np 4 build/release/examples/02_named_tensors
#include <chrono>
#include <cstdio>
#include <hora/hora.hpp>
#include <string>
#include <vector>

int main() {
  using std::chrono_literals::operator""ms;
  constexpr int kTensors = 20;
  auto comm = hora::Communicator::init();

  std::vector<std::vector<float>> gradients(kTensors, std::vector<float>(256, static_cast<float>(comm.rank())));
  std::vector<hora::Handle> handles(kTensors);
  for (int i = 0; i < kTensors; ++i) {
    const int tensor = (i + 7 * comm.rank()) % kTensors;  // every rank begins elsewhere
    handles[tensor] = comm.allreduce_async("gradient." + std::to_string(tensor), std::span(gradients[tensor]),
                                           hora::ReduceOp::average);
  }
  // Look without waiting, wait a while, wait to the end.
  int ready = 0;
  for (const hora::Handle& handle : handles) ready += handle.done() ? 1 : 0;
  const bool first = handles[0].wait_for(500ms);
  for (hora::Handle& handle : handles) handle.wait();

  // A disagreement about a name is the same error on every rank, and harms no other name.
  std::vector<float> odd(static_cast<std::size_t>(comm.rank()) + 1);
  std::string refused = "nothing (one rank cannot disagree)";
  try {
    comm.allreduce_async("odd", std::span(odd)).wait();
  } catch (const hora::Error& error) {
    refused = error.what();
  }
  std::printf("rank %d: %d of %d were ready at once, the first one %s; average %g; refused: %s\n", comm.rank(), ready,
              kTensors, first ? "within 500 ms" : "later", gradients[0][0], refused.c_str());
  comm.shutdown();
}
