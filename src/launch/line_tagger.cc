#include "launch/line_tagger.h"

#include <algorithm>

namespace hora::launch {

std::string LineTagger::feed(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const std::size_t room = kLineBytesMax - line_.size();
    const std::size_t end = bytes.find('\n');
    const std::size_t take = std::min(end, std::min(room, bytes.size()));
    line_ += bytes.substr(0, take);
    const bool ended = take == end;
    bytes.remove_prefix(ended ? take + 1 : take);
    if (ended || line_.size() == kLineBytesMax) {
      out += tag_ + line_ + '\n';
      line_.clear();
    }
  }
  return out;
}

std::string LineTagger::finish() {
  if (line_.empty()) return {};
  std::string out = tag_ + line_ + '\n';
  line_.clear();
  return out;
}

}  // namespace hora::launch
