// What is known of every other member: certainly dead, suspected and why, or alive as far as can be told (law 8).
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>

#include "base/time.h"
#include "elastic/record.h"
#include "hora/types.hpp"
#include "hora/view.hpp"

namespace hora::elastic {

struct Peer {
  std::uint64_t host = 0;
  bool met = false;  // it was in a view that was entered
  bool in_view = false;
  TimePoint heard;
  std::optional<TimePoint> link_down;
  std::string suspicion;  // why it is suspected; empty: it is not
  bool dead = false;      // certainly
  bool leaving = false;
  std::optional<Record> record;  // its last word; only of the dead, until a view without them, where it could be read

  [[nodiscard]] bool alive() const noexcept { return !dead && suspicion.empty(); }
};

// Not thread safe. Who was once a member is known for good: it is told which view dropped it when it asks.
class Detector {
 public:
  Detector(Duration silence, Duration link_grace) : silence_(silence), link_grace_(link_grace) {}

  // Watches the members of `view` but `self`, newcomers from `now` on; the silence is that of the view.
  void enter(const View& view, MemberId self, TimePoint now);
  // Null for strangers: those that were in no view entered, and `self`.
  [[nodiscard]] Peer* find(MemberId id);
  // Where to write down what is seen of anybody: a stranger may be a newcomer of a view that is not known here yet. Of
  // strangers only the last few are kept.
  Peer& witness(MemberId id);
  // Nothing was seen that speaks against the stranger `id`; false for those that were in a view.
  [[nodiscard]] bool may_be_newcomer(MemberId id) const;
  [[nodiscard]] const Peer* find(MemberId id) const;
  // Clears a suspicion unless the link to it is lost.
  void heard_from(MemberId id, TimePoint now);
  // Suspects every member that was silent, or whose link was lost, for too long. True when somebody became a suspect.
  bool check(TimePoint now);
  // This process was not running until now: nobody is to blame for what it did not hear.
  void forgive(TimePoint now);
  // When check() may find the next suspect.
  [[nodiscard]] std::optional<TimePoint> next_check() const;

 private:
  [[nodiscard]] TimePoint limit(const Peer& peer) const;

  Duration silence_;
  Duration link_grace_;
  std::map<MemberId, Peer> peers_;
  std::deque<MemberId> strangers_;  // those of peers_ that were not met, oldest first
};

}  // namespace hora::elastic
