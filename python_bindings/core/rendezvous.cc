#include "rendezvous.h"

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <utility>

namespace hora::python {

namespace py = pybind11;

std::unique_ptr<Rendezvous> Rendezvous::host(const std::string& job, const std::string& host) {
  const py::gil_scoped_release released;
  return std::unique_ptr<Rendezvous>(new Rendezvous(hora::Rendezvous::host(job, host)));
}

Rendezvous::Rendezvous(hora::Rendezvous native)
    : native_(std::make_unique<hora::Rendezvous>(std::move(native))), process_(::getpid()) {}

Rendezvous::~Rendezvous() {
  if (::getpid() != process_) {
    (void)native_.release();
    return;
  }
  const py::gil_scoped_release released;
  native_.reset();
}

}  // namespace hora::python
