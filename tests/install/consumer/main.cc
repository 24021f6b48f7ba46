// A job of one: links every part of the public interface that a small program touches, and checks a result.
#include <cstdio>
#include <hora/hora.hpp>
#include <span>
#include <vector>

int main() {
  try {
    hora::Communicator comm = hora::Communicator::init();
    std::vector<float> values(1000, 3.0f);
    const hora::Outcome outcome = comm.allreduce(std::span(values), hora::ReduceOp::average);
    comm.allreduce_async("values", std::span(values)).wait();
    const bool right = outcome.contributors == 1 && values.front() == 3.0f && values.back() == 3.0f;
    std::printf("%s of %d ranks is %s\n", hora::to_string(hora::Collective::allreduce), comm.size(),
                right ? "right" : "wrong");
    comm.shutdown();
    return right ? 0 : 1;
  } catch (const hora::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
