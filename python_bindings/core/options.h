// hora::Options out of the keywords of Communicator.init().
#pragma once

#include <pybind11/pybind11.h>

#include "hora/options.hpp"

namespace hora::python {

// Keywords are named like the fields of hora::Options, and win over the environment. A call that says who this process
// is (rank, size, job, store or meeting) is not told so by the environment as well. Throws Error, TypeError,
// ValueError.
Options options_of(const pybind11::kwargs& keywords);

}  // namespace hora::python
