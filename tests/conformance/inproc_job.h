// ScheduleGroup over the in-process transport.
#pragma once

#include <memory>

#include "implementation.h"

namespace hora::conformance {

std::unique_ptr<Job> make_inproc_job(const View& founding);

// The same over links that fill the memory of a receiver in several calls.
std::unique_ptr<Job> make_trickling_job(const View& founding);

// The same, with another network for the founding view than for all later ones.
std::unique_ptr<Job> make_switching_job(const View& founding);

}  // namespace hora::conformance
