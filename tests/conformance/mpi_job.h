// ScheduleGroup over MPI: each rank is a process, and this one holds the rank that mpirun gave it.
#pragma once

#include <memory>

#include "implementation.h"
#include "transports/mpi/library.h"

namespace hora::conformance {

// Before the first job; outlives all of them.
void use_library(mpi::Library& library);

// In every process, also in those that hold no rank of it. Waits for the job before to be over everywhere.
std::unique_ptr<Job> make_mpi_job(const View& founding);

}  // namespace hora::conformance
