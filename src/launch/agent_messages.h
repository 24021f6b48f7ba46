// What a launcher and its agent on another host say to each other: frames over the remote shell's standard streams.
//
//   launcher                             agent
//   Setup, once                          Ready, or Refused and it ends
//   Start | Signal | Taken, ...          NotStarted | OutputBytes | Ended | Alive, ...
//
// Either side ends by closing its end; the agent then kills the processes that it has started.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/wire.h"
#include "hora/status.hpp"
#include "launch/host.h"
#include "launch/outcome.h"

namespace hora::launch {

// Changes with every change of these messages: both ends must be of one version.
inline constexpr std::uint32_t kAgentProtocol = 1;
// Bytes of output that an agent sends ahead of being told that they were taken: who reads slowly holds the processes
// back, not the news of their ends.
inline constexpr std::uint64_t kAgentWindowBytes = std::uint64_t{256} << 10;

struct Setup {
  std::vector<std::string> command;
  std::string directory;
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
using ToAgent = std::variant<Setup, Start, Signal, Taken>;

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
// Sent by an agent that has nothing to say. Where the launcher went away behind a link that was down, this makes the
// network notice that nobody is there any more, so that the connection ends and the processes with it.
struct Alive {};
using FromAgent = std::variant<Ready, Refused, NotStarted, OutputBytes, Ended, Alive>;

wire::Bytes encode(const ToAgent& message);
wire::Bytes encode(const FromAgent& message);
// StatusCode::mismatch for what is none: the remote shell may print anything before the agent begins.
Result<ToAgent> decode_to_agent(std::span<const std::byte> frame);
Result<FromAgent> decode_from_agent(std::span<const std::byte> frame);

}  // namespace hora::launch
