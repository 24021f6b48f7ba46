// How the simulated application lets newcomers in: members that know of one stand still at their next step boundary and
// tell it where; when all members of a view stand at one place, it fetches the state from one of them, says that it is
// ready, and they ask for it to be admitted. Whatever view comes next, they go on for at least one step.
#pragma once

#include <map>
#include <optional>
#include <span>

#include "elastic/membership.h"
#include "interfaces/operation.h"
#include "sim/data_plane.h"

namespace hora::sim {

class Cluster;
class Node;

class Boundary {
 public:
  Boundary(Cluster& cluster, Node& node, int index) : cluster_(cluster), node_(node), index_(index) {}

  void receive(int from, std::span<const std::byte> message);

  // A member: whether it stands still before its next operation of this channel, until the next install.
  bool holds(Channel channel);
  // An operation ended, or the last one was never to come.
  void look();
  // A view was installed. Says which channels were held.
  std::array<bool, kChannelCount> release();

  // A newcomer: asks until it is in a view.
  void ask();
  // The state that was fetched last.
  [[nodiscard]] Past take_past() { return std::move(past_); }

 private:
  // Operations do not name a boundary: a step all of whose names were rejected has none.
  struct Place {
    Positions ended{};
    std::uint64_t steps = 0;
    friend bool operator==(const Place&, const Place&) = default;
  };
  struct Standing {
    View view;
    Place at;
    friend bool operator==(const Standing&, const Standing&) = default;
  };
  enum class Kind : std::uint8_t { ask, standing, fetch, state, ready };

  [[nodiscard]] std::optional<Standing> standing() const;
  [[nodiscard]] bool stops_at(Channel channel) const;
  void send(int to, Kind kind, const std::optional<Standing>& standing, const Past* past = nullptr);
  void on_standing(int from, const Standing& where);
  void try_ready();

  Cluster& cluster_;
  Node& node_;
  int index_;
  // A member.
  std::map<int, TimePoint> asked_;  // newcomers, and when they last asked
  std::array<bool, kChannelCount> held_{};
  std::array<std::optional<std::uint64_t>, kChannelCount> left_;  // the boundary that was left last
  Epoch told_;                                                    // the view in which it stood and said so
  // A newcomer.
  std::map<int, Standing> standings_;  // the last of each member
  std::optional<Place> past_at_;
  Past past_;
};

}  // namespace hora::sim
