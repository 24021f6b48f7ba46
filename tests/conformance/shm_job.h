// ShmGroup, with ranks that share the segments of one process.
#pragma once

#include <memory>

#include "implementation.h"

namespace hora::conformance {

std::unique_ptr<Job> make_shm_job(const View& founding);

}  // namespace hora::conformance
