// The laws that are seen only from outside: one view for each epoch, one outcome for each operation on all who survive.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/wire.h"
#include "hora/view.hpp"
#include "sim/data_plane.h"

namespace hora::sim {

class Checker {
 public:
  explicit Checker(std::function<void(const std::string&)> violation) : violation_(std::move(violation)) {}

  // `node` goes from the view of `before` to `next`.
  void entered(int node, Epoch before, const View& next, const wire::Bytes& verdict);
  // ... and has finished what that install committed: from here on all members of it have the same past.
  void settled(int node, Epoch epoch, const Past& past);
  // `node` executes a group of names at this position of the log of `epoch`.
  void executes(int node, Epoch epoch, std::uint64_t position, const std::vector<std::string>& group);
  // At the end, two survivors.
  void same_past(int node, const Past& past, int other, const Past& other_past);

  // Somebody has installed a view with `node`.
  [[nodiscard]] bool was_decided(int node) const;
  // Somebody has installed a view without `node`.
  [[nodiscard]] bool expelled(int node) const;
  [[nodiscard]] std::size_t views() const { return views_.size(); }

 private:
  std::function<void(const std::string&)> violation_;
  struct Installed {
    View view;
    wire::Bytes verdict;
  };
  std::map<Epoch, Installed> views_;
  std::map<Epoch, Past> pasts_;
  std::map<std::pair<Epoch, std::uint64_t>, std::vector<std::string>> groups_;
};

}  // namespace hora::sim
