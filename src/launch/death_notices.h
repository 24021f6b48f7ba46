// Tells the members of a job, through its store, who has died: the launcher sees the end of each process before anybody
// on another host can.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>

#include "elastic/store/obituary.h"
#include "hora/status.hpp"
#include "interfaces/store.h"

namespace hora::launch {

// The only writer of a job's death/1, death/2, ... One thread.
class DeathNotices {
 public:
  // `store` outlives it.
  DeathNotices(Store& store, std::string job) : store_(store), job_(std::move(job)) {}

  // Nothing for a process that ended before it had a member id: nobody has met it. An error: the store did not answer;
  // who was not told of is told of before the next.
  Status tell(std::string_view token, std::string_view reason);

 private:
  Store& store_;
  std::string job_;
  std::deque<store::Obituary> untold_;
  std::uint64_t told_ = 0;
};

}  // namespace hora::launch
