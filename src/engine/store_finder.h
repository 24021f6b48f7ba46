// How the ranks of a launcher that knows nothing of hora come to one store: rank 0 hosts it, the others learn where.
#pragma once

#include <memory>

#include "base/log.h"
#include "engine/greeter.h"
#include "engine/hosted_store.h"
#include "hora/options.hpp"
#include "hora/status.hpp"
#include "interfaces/clock.h"

namespace hora::engine {

struct FoundStore {
  StoreAccess access;
  // In rank 0 only. Its end has no effect on a job that has started: it is where ranks meet, nothing more.
  std::unique_ptr<HostedStore> hosted;
  std::unique_ptr<Greeter> greeter;  // until all founders have met; not where the meeting is over TCP
};

// Precondition: options.store is empty, options.meeting is not. Blocks until rank 0 has come, at most
// options.start_timeout_ms. invalid_argument where ranks of other hosts could not come.
Result<FoundStore> find_store(const Options& options, const Clock& clock, const Log& log);

}  // namespace hora::engine
