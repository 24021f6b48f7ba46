// Cuts a stream into lines and puts a tag before each: "[3] text".
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace hora::launch {

class LineTagger {
 public:
  // A longer line is cut: nobody's output is held back, or in memory, without limit.
  static constexpr std::size_t kLineBytesMax = std::size_t{64} << 10;

  explicit LineTagger(std::string tag) : tag_(std::move(tag)) {}

  // The tagged lines that `bytes` completes.
  std::string feed(std::string_view bytes);
  // The last line, if it was never ended; the stream is over.
  std::string finish();

 private:
  std::string tag_;
  std::string line_;
};

}  // namespace hora::launch
