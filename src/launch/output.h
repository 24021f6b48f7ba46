// One stream of the launcher (standard output or standard error), into which the processes' output is merged by lines.
//
// Never blocks: what the reader does not take is queued, and while the queue is full() nobody is read from.
#pragma once

#include <poll.h>

#include <map>
#include <string>
#include <string_view>

#include "launch/line_tagger.h"

namespace hora::launch {

class Output {
 public:
  // Writes to `destination`, which stays open and as it is. Without `tags`, bytes pass as they come.
  Output(int destination, bool tags) : destination_(destination), tags_(tags) {}

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
  [[nodiscard]] pollfd polled() const noexcept { return {queue_.empty() ? -1 : destination_, POLLOUT, 0}; }
  // Once the stream polls as writable.
  void write();

 private:
  int destination_;
  bool tags_;
  bool broken_ = false;  // nobody reads any more: the rest is dropped
  std::map<int, LineTagger> taggers_;
  std::string queue_;
};

}  // namespace hora::launch
