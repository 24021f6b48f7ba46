// hora::Error as exceptions of Python: HoraError, and below it one class for each thing that a caller can do about it.
#pragma once

#include <pybind11/pybind11.h>

namespace hora::python {

// Puts the classes into the module, and has hora::Error arrive as them.
void define_errors(pybind11::module_& module);

}  // namespace hora::python
