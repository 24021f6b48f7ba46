// Takes down what calls returned, for newcomers that follow this member (protocol law 10). What cannot be taken down
// costs the newcomers, never the call.
#pragma once

#include <string_view>

#include "hora/hora.hpp"
#include "interfaces/operation.h"

namespace hora::engine {

class Recorder {
 public:
  virtual ~Recorder() = default;
  // An ordered call is about to return, on its caller's thread. The result is in extent.target.
  virtual void ordered(const Status& status, const Outcome& outcome, const Signature& signature,
                       const Extent& extent) noexcept = 0;
  // A named work is about to end, on the thread that holds the token.
  virtual void named(std::string_view name, const Status& status, const Outcome& outcome, const Signature& signature,
                     const Extent& extent) noexcept = 0;
};

}  // namespace hora::engine
