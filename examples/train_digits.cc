// Trains a small network on handwritten digits, data-parallel, goes on when ranks are killed, and takes in newcomers.
//
//   hora run -np 4 --min-np 2 --max-restarts 2 build/release/examples/train_digits
//
// With --pace each step takes at least so many milliseconds, as one of a larger network would.
//
// Every rank holds the whole network and works on its share of each batch. Gradients go through the negotiated front,
// each under its own name as soon as the backward pass has made it. Nothing in this file handles a failure: an
// allreduce that a death interrupts ends among the survivors, and the next batch is shared out by the new rank and
// size. For newcomers it registers its state, and calls step() at the end of each step.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <hora/hora.hpp>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "digits.h"
#include "event_log.h"
#include "network.h"

namespace {

constexpr std::size_t kBatch = 240;
constexpr float kRate = 0.03F;
constexpr float kMomentum = 0.9F;
constexpr float kDecay = 0.001F;
constexpr std::uint32_t kSplitSeed = 1;
constexpr std::uint32_t kOrderSeed = 7;

struct Arguments {
  std::string data = "examples/data/optdigits.csv";
  std::string events;  // a directory: process p of `hora run` writes rank-p.jsonl there
  std::size_t steps = 4000;
  unsigned pace_ms = 0;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string_view name = argv[i];
    if (i + 1 == argc) throw std::invalid_argument(std::string(name) + " wants a value");
    const std::string value = argv[i + 1];
    if (name == "--data") {
      arguments.data = value;
    } else if (name == "--events") {
      arguments.events = value;
    } else if (name == "--steps") {
      arguments.steps = std::stoul(value);
    } else if (name == "--pace") {
      arguments.pace_ms = static_cast<unsigned>(std::stoul(value));
    } else {
      throw std::invalid_argument("usage: train_digits [--data CSV] [--events DIRECTORY] [--steps N] [--pace MS]");
    }
  }
  return arguments;
}

std::string place(const hora::Communicator& comm) {
  return "\"epoch\":" + std::to_string(comm.epoch().value) + ",\"rank\":" + std::to_string(comm.rank()) +
         ",\"size\":" + std::to_string(comm.size());
}

std::string hexadecimal(std::int64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

class Training {
 public:
  Training(hora::Communicator& comm, const Arguments& arguments, digits::EventLog& events)
      : comm_(comm),
        arguments_(arguments),
        events_(events),
        data_(digits::split(digits::load(arguments.data), kSplitSeed)),
        order_(data_.train.count(), kBatch, kOrderSeed),
        network_({digits::kPixels, 64, 64, 32, digits::kClasses}, /*seed=*/static_cast<std::uint32_t>(comm.rank() + 1)),
        epoch_(comm.epoch()) {
    for (digits::Parameter& parameter : network_.parameters()) {
      comm_.register_state(parameter.name, std::span(parameter.value));
      comm_.register_state(parameter.name + ".velocity", std::span(parameter.velocity));
    }
    comm_.register_state("steps", std::span(&steps_, 1));
  }

  // Rank 0's start values for everybody.
  void share_parameters() {
    std::vector<hora::Handle> handles;
    for (digits::Parameter& parameter : network_.parameters())
      handles.push_back(comm_.broadcast_async(parameter.name + ".start", std::span(parameter.value), /*root=*/0));
    for (hora::Handle& handle : handles) handle.wait();
  }

  void run() {
    if (comm_.observing()) events_.write("joining", place(comm_));
    comm_.step();
    bool observing = comm_.observing();
    if (observing) events_.write("state", place(comm_) + ",\"step\":" + std::to_string(steps_));
    while (steps_ < arguments_.steps) {
      const auto earliest_end = std::chrono::steady_clock::now() + std::chrono::milliseconds(arguments_.pace_ms);
      const float left = 1.0F - static_cast<float>(steps_) / static_cast<float>(arguments_.steps);
      const float loss = train_step(steps_ + 1);
      network_.descend(kRate * left, kMomentum, kDecay);
      ++steps_;
      if (!observing) std::this_thread::sleep_until(earliest_end);
      if (!observing)
        events_.write("step",
                      place(comm_) + ",\"step\":" + std::to_string(steps_) + ",\"loss\":" + std::to_string(loss));
      comm_.step();
      if (observing && !comm_.observing())
        events_.write("entered", place(comm_) + ",\"step\":" + std::to_string(steps_));
      observing = comm_.observing();
    }
  }

  // Compares the parameters of all ranks. True when all hold the same bits.
  bool finish() {
    const std::vector<std::int64_t> hashes = gather(static_cast<std::int64_t>(network_.hash()));
    comm_.flush();
    const double accuracy = network_.accuracy(data_.test.pixels, data_.test.labels);
    const bool equal = std::ranges::all_of(hashes, [&](std::int64_t hash) { return hash == hashes.front(); });
    events_.write("end", place(comm_) + ",\"steps\":" + std::to_string(arguments_.steps) +
                             ",\"pid\":" + std::to_string(::getpid()) + ",\"hash\":\"" +
                             hexadecimal(hashes[static_cast<std::size_t>(comm_.rank())]) + "\",\"hashes_equal\":" +
                             (equal ? "true" : "false") + ",\"accuracy\":" + std::to_string(accuracy));
    if (comm_.rank() == 0)
      std::printf("%zu steps, %d ranks at the end, parameters %s on all of them, test accuracy %.2f %%\n",
                  arguments_.steps, comm_.size(), equal ? "equal" : "NOT equal", 100 * accuracy);
    return equal;
  }

 private:
  // Leaves the mean gradients of the whole batch in the network, and returns its mean loss.
  float train_step(std::size_t step) {
    if (comm_.observing()) return follow_step();
    inputs_.clear();
    labels_.clear();
    for (const std::uint32_t index : order_.shard(step, comm_.rank(), comm_.size())) {
      const std::span<const float> image = data_.train.image(index);
      inputs_.insert(inputs_.end(), image.begin(), image.end());
      labels_.push_back(data_.train.labels[index]);
    }
    std::vector<hora::Handle> handles;
    float loss = network_.forward_backward(inputs_, labels_, [&](digits::Parameter& parameter) {
      handles.push_back(comm_.allreduce_async(parameter.name, std::span(parameter.gradient), hora::ReduceOp::average));
    });
    handles.push_back(comm_.allreduce_async("loss", std::span(&loss, 1), hora::ReduceOp::average));
    events_.write("submitted", "\"step\":" + std::to_string(step));
    for (hora::Handle& handle : handles) note(handle.wait());
    return loss;
  }

  // What train_step() would come to, from the others' results: a newcomer catches up without computing.
  float follow_step() {
    std::vector<hora::Handle> handles;
    for (digits::Parameter& parameter : network_.parameters())
      handles.push_back(comm_.allreduce_async(parameter.name, std::span(parameter.gradient), hora::ReduceOp::average));
    float loss = 0;
    handles.push_back(comm_.allreduce_async("loss", std::span(&loss, 1), hora::ReduceOp::average));
    for (hora::Handle& handle : handles) handle.wait();
    return loss;
  }

  // Tells of the first result that was made in a new view.
  void note(const hora::Outcome& outcome) {
    if (outcome.epoch == epoch_) return;
    epoch_ = outcome.epoch;
    events_.write("result", place(comm_) + ",\"contributors\":" + std::to_string(outcome.contributors));
  }

  std::vector<std::int64_t> gather(std::int64_t value) {
    for (;;) {
      std::vector<std::int64_t> values(static_cast<std::size_t>(comm_.size()));
      try {
        comm_.allgather(std::span<const std::int64_t>(&value, 1), std::span(values));
        return values;
      } catch (const hora::Error& error) {
        // A rank died during the call, so the result would have another size.
        if (error.code() != hora::StatusCode::peer_failed) throw;
      }
    }
  }

  hora::Communicator& comm_;
  const Arguments& arguments_;
  digits::EventLog& events_;
  digits::Split data_;
  digits::BatchOrder order_;
  digits::Network network_;
  hora::Epoch epoch_;
  std::uint64_t steps_ = 0;  // done
  std::vector<float> inputs_;
  std::vector<std::uint8_t> labels_;
};

int train(const Arguments& arguments) {
  auto options = hora::Options::from_environment();
  if (!options.ok()) throw hora::Error(options.status());
  hora::Communicator comm = hora::Communicator::init(options.value());
  digits::EventLog events(
      arguments.events.empty() ? "" : arguments.events + "/rank-" + std::to_string(options->process) + ".jsonl");
  events.write("start", place(comm) + ",\"pid\":" + std::to_string(::getpid()));
  comm.on_view_change([&](const hora::View&, const hora::View&) { events.write("view", place(comm)); });
  try {
    Training training(comm, arguments, events);
    training.share_parameters();
    training.run();
    const bool equal = training.finish();
    comm.shutdown();
    return equal ? 0 : 1;
  } catch (const hora::Error& error) {
    // Who was cut off from the others can tell it only here.
    events.write("stopped", place(comm) + ",\"why\":" + digits::quoted(error.what()));
    throw;
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // the reader of the events may leave
  try {
    return train(parse(argc, argv));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "train_digits: %s\n", error.what());
    return 1;
  }
}
