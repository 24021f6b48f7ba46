// The seam between a job and the hosts that its processes run on: this one, or one that an agent answers for.
#pragma once

#include <poll.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "hora/status.hpp"
#include "launch/outcome.h"

namespace hora::launch {

enum class Stream : std::uint8_t { output, error };

using Variables = std::vector<std::pair<std::string, std::string>>;

// What a host tells. All calls come from within Host::handle().
class HostEvents {
 public:
  virtual ~HostEvents() = default;
  virtual void on_output(int process, Stream stream, std::string_view bytes) = 0;
  // All that it has said came before.
  virtual void on_end(int process, const Exit& exit, bool out_of_memory) = 0;
  // A start that was accepted has failed after all.
  virtual void on_not_started(int process, std::string_view why) = 0;
};

// Starts processes of one job and tells of them. One thread; nothing blocks.
class Host {
 public:
  enum class State : std::uint8_t { connecting, ready, lost };

  virtual ~Host() = default;
  // Processes can be started while it is ready. Once lost it stays so, and nothing more is heard of its processes.
  [[nodiscard]] virtual State state() const = 0;
  // Why it is lost.
  [[nodiscard]] virtual std::string why() const = 0;
  // `process` is its number in the job, never used again; `variables` are over the host's environment.
  virtual Status start(int process, const Variables& variables) = 0;
  // To the process groups of all that run.
  virtual void signal(int signal) = 0;
  // What to poll for, appended; handle() takes the same entries back and returns how many they were. Without
  // `read_output`, output is left where it is and holds back whoever writes it.
  virtual void append_polled(std::vector<pollfd>& polled, bool read_output) = 0;
  virtual std::size_t handle(const pollfd* polled) = 0;
  // When on_time() wants to be called, at the latest.
  [[nodiscard]] virtual TimePoint next_deadline() const = 0;
  virtual void on_time(TimePoint now) = 0;
  // What those have written that outlived the process that started them, and the end of it.
  virtual void drain() = 0;
};

}  // namespace hora::launch
