// Tells the members of a job, through its store, who has died: the launcher sees the end of each process before anybody
// on another host can.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "elastic/store/store_client.h"
#include "hora/status.hpp"
#include "interfaces/clock.h"

namespace hora::launch {

// The only writer of a job's death/1, death/2, ... One thread.
class DeathNotices {
 public:
  // The store is that of this process, so a call is answered at once. `clock` outlives it.
  DeathNotices(const std::string& store_address, const std::string& job, const std::string& secret, const Clock& clock);

  // Nothing for a process that ended before it had a member id: nobody has met it. An error: the store did not answer.
  Status tell(std::string_view token, std::string_view reason);

 private:
  std::string job_;
  store::StoreClient client_;
  std::uint64_t told_ = 0;
};

}  // namespace hora::launch
