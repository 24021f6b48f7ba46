// Merges what the ranks write to one stream (standard output or standard error) into the launcher's own, line by line.
//
// Never blocks: a reader that does not read holds the ranks back, not the launcher.
#pragma once

#include <poll.h>

#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "launch/line_tagger.h"

namespace hora::launch {

class Output {
 public:
  // Writes to `destination`, which stays open and as it is.
  explicit Output(int destination) : destination_(destination) {}

  // Merges what comes from `source`, the reading end of a non-blocking pipe.
  void add(UniqueFd source, std::string tag);
  // A line of the launcher's own.
  void say(std::string_view line);

  // What to poll for, appended; handle() takes the same entries back, from `polled` on, and returns how many they were.
  void append_polled(std::vector<pollfd>& polled) const;
  std::size_t handle(const pollfd* polled);
  // Reads all that the sources hold now and ends them: their writers are gone.
  void close_sources();
  // Nothing waits to be written.
  [[nodiscard]] bool empty() const noexcept { return queue_.empty(); }

 private:
  struct Source {
    UniqueFd fd;
    LineTagger tagger;
  };

  void read(Source& source);
  void write();

  int destination_;
  bool broken_ = false;  // nobody reads any more: the rest is dropped
  std::vector<Source> sources_;
  std::string queue_;
};

}  // namespace hora::launch
