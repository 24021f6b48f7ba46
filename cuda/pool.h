// What the driver is slow to make (streams, events, memory) and therefore lends again and again.
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "hora/status.hpp"

namespace hora::cuda {

// Whoever has the pool destroys what was made(), after everything has been given back. One thread.
template <typename T>
class Pool {
 public:
  // One of `kind` (for memory its bytes) that was given back, or else what `make(T*)` makes.
  template <typename Make>
  Result<T> take(std::size_t kind, Make make) {
    if (const auto found = free_.find(kind); found != free_.end()) {
      const T one = found->second;
      free_.erase(found);
      return one;
    }
    T one{};
    HORA_TRY(make(&one));
    made_.push_back(one);
    return one;
  }

  void give_back(std::size_t kind, const T& one) { free_.emplace(kind, one); }
  [[nodiscard]] const std::vector<T>& made() const noexcept { return made_; }

 private:
  std::vector<T> made_;
  std::multimap<std::size_t, T> free_;  // by kind
};

}  // namespace hora::cuda
