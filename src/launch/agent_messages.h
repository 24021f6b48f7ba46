// What a launcher and its agent on another host say to each other: frames over the remote shell's standard streams.
//
//   launcher                             agent
//   Setup, once                          Ready, or Refused and it ends
//   Start | Signal | Taken | Alive, ...  NotStarted | OutputBytes | Ended | Alive, ...
//
// Either side ends by closing its end, or by being silent for as long as the Setup says; the agent then kills the
// processes that it has started.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/time.h"
#include "base/wire.h"
#include "hora/status.hpp"
#include "launch/host.h"
#include "launch/outcome.h"

namespace hora::launch {

// Changes with every change of these messages: both ends must be of one version.
inline constexpr std::uint32_t kAgentProtocol = 3;
// Bytes of output that an agent sends ahead of being told that they were taken: who reads slowly holds the processes
// back, not the news of their ends.
inline constexpr std::uint64_t kAgentWindowBytes = std::uint64_t{256} << 10;

struct Setup {
  std::vector<std::string> command;
  std::string directory;
  std::uint32_t silence_ms = 0;  // either side takes the other for lost after this long without a word
};
struct Start {
  int process = 0;
  Variables variables;
};
struct Signal {
  int signal = 0;
};
struct Taken {
  std::uint64_t bytes = 0;
};
// Sent by either side every beat(), whatever else it says: who hears nothing for the agreed time knows that the network
// or the other side is gone, long before the remote shell does.
struct Alive {};
using ToAgent = std::variant<Setup, Start, Signal, Taken, Alive>;

struct Ready {
  std::uint32_t protocol = kAgentProtocol;
};
struct Refused {
  std::string why;
};
struct NotStarted {
  int process = 0;
  std::string why;
};
struct OutputBytes {
  int process = 0;
  Stream stream = Stream::output;
  std::string bytes;
};
struct Ended {
  int process = 0;
  Exit exit;
  bool out_of_memory = false;
};
using FromAgent = std::variant<Ready, Refused, NotStarted, OutputBytes, Ended, Alive>;

// Between two words of one side: a lost connection is noticed close to the end of the agreed silence, not long before
// it.
inline Duration beat(Duration silence) {
  return std::min<Duration>(std::chrono::seconds(1), silence / 4);
}

// Whether whoever should have looked at `due` and does so only `now` must have been stopped itself: what it did not
// hear meanwhile says nothing of the other side.
inline bool was_paused(TimePoint now, TimePoint due, Duration silence) {
  return now - due > silence / 2;
}

wire::Bytes encode(const ToAgent& message);
wire::Bytes encode(const FromAgent& message);
// StatusCode::mismatch for what is none: the remote shell may print anything before the agent begins.
Result<ToAgent> decode_to_agent(std::span<const std::byte> frame);
Result<FromAgent> decode_from_agent(std::span<const std::byte> frame);

}  // namespace hora::launch
