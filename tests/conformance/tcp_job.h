// ScheduleGroup over the sockets of transports/tcp, between threads of this process.
#pragma once

#include <memory>

#include "implementation.h"

namespace hora::conformance {

// TCP over loopback between all members.
std::unique_ptr<Job> make_tcp_job(const View& founding);
// The same between hosts, and shared memory beside Unix sockets inside one.
std::unique_ptr<Job> make_mixed_job(const View& founding);

}  // namespace hora::conformance
