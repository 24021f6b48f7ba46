// The clock of the simulator: events in order of time, and of scheduling where times are equal.
#pragma once

#include <cstdint>
#include <functional>
#include <queue>
#include <utility>
#include <vector>

#include "base/time.h"

namespace hora::sim {

class EventQueue {
 public:
  [[nodiscard]] TimePoint now() const { return now_; }
  void at(TimePoint time, std::function<void()> event) {
    events_.push({time < now_ ? now_ : time, order_++, std::move(event)});
  }
  void after(Duration delay, std::function<void()> event) { at(now_ + delay, std::move(event)); }
  // Runs the next event; false when there is none.
  bool run_next() {
    if (events_.empty()) return false;
    const Event event = events_.top();
    events_.pop();
    now_ = event.time;
    event.run();
    return true;
  }

 private:
  struct Event {
    TimePoint time;
    std::uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {  // the priority queue has its greatest element on top
      return std::pair(other.time, other.order) < std::pair(time, order);
    }
  };
  TimePoint now_{std::chrono::seconds(1)};
  std::uint64_t order_ = 0;
  std::priority_queue<Event> events_;
};

}  // namespace hora::sim
