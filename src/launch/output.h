// The launcher's standard output and standard error, into which the output of its processes is merged by lines.
//
// Never blocks: what the reader does not take is queued, and while a queue is full() nobody is read from. Lines are not
// torn where both streams go to the same place, either.
#pragma once

#include <poll.h>

#include <array>
#include <map>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "launch/host.h"
#include "launch/line_tagger.h"

namespace hora::launch {

class Output {
 public:
  // Writes to `destination`, which stays open and as it is. Without `tags`, bytes pass as they come.
  Output(int destination, bool tags);

  // What a process wrote: its lines, each after "[process] ".
  void feed(int process, std::string_view bytes);
  // Its last line, if it was not ended; it writes no more.
  void finish(int process);
  void finish_all();
  // A line of the launcher's own.
  void say(std::string_view line);

  [[nodiscard]] bool full() const noexcept;
  // Nothing waits to be written.
  [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }
  // The last that was written is the beginning of a line whose rest waits.
  [[nodiscard]] bool amid_line() const noexcept { return amid_line_ && !queue_.empty(); }
  [[nodiscard]] pollfd polled() const noexcept { return {queue_.empty() ? -1 : destination_, POLLOUT, 0}; }
  // Once the stream polls as writable.
  void write();

 private:
  UniqueFd terminal_;  // where the destination is one: opened anew, so that its flags are ours
  int destination_;
  bool tags_;
  bool amid_line_ = false;
  bool broken_ = false;  // nobody reads any more: the rest is dropped
  std::map<int, LineTagger> taggers_;
  std::string queue_;
};

class Outputs {
 public:
  explicit Outputs(bool tags);

  void feed(int process, Stream stream, std::string_view bytes);
  void finish(int process);
  void finish_all();
  // A line of the launcher's own, on standard error.
  void say(std::string_view line) { error_.say(line); }

  [[nodiscard]] bool full() const noexcept { return output_.full() || error_.full(); }
  [[nodiscard]] bool empty() const noexcept { return output_.empty() && error_.empty(); }
  using Polled = std::array<pollfd, 2>;
  [[nodiscard]] Polled polled() const noexcept;
  // With the entries of polled().
  void write(const pollfd* polled);

 private:
  // Whether one stream has to wait for the rest of a line of the other.
  [[nodiscard]] bool waits(const Output& other) const noexcept { return same_place_ && other.amid_line(); }

  Output output_;
  Output error_;
  bool same_place_;
};

}  // namespace hora::launch
