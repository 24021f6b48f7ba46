// hora._core: what Python sees. Documented in _core.pyi.
#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>

#include "communicator.h"
#include "errors.h"
#include "handle.h"
#include "rendezvous.h"

namespace py = pybind11;
using namespace hora;  // NOLINT: this file is nothing but names of hora

namespace {

void define_values(py::module_& module) {
  py::native_enum<ReduceOp>(module, "ReduceOp", "enum.Enum")
      .value("SUM", ReduceOp::sum)
      .value("AVERAGE", ReduceOp::average)
      .value("MIN", ReduceOp::min)
      .value("MAX", ReduceOp::max)
      .value("PRODUCT", ReduceOp::product)
      .finalize();
  py::class_<Outcome>(module, "Outcome")
      .def_property_readonly("epoch", [](const Outcome& outcome) { return outcome.epoch.value; })
      .def_readonly("contributors", &Outcome::contributors)
      .def("__repr__", [](const Outcome& outcome) {
        return "Outcome(epoch=" + std::to_string(outcome.epoch.value) +
               ", contributors=" + std::to_string(outcome.contributors) + ")";
      });
  py::class_<View>(module, "View")
      .def_property_readonly("epoch", [](const View& view) { return view.epoch.value; })
      .def_property_readonly("size", &View::size)
      .def_property_readonly("members",
                             [](const View& view) {
                               py::list ids;
                               for (const Member& member : view.members) ids.append(member.id.value);
                               return py::tuple(ids);
                             })
      .def_property_readonly("hosts",
                             [](const View& view) {
                               py::list hosts;
                               for (const Member& member : view.members) hosts.append(member.host);
                               return py::tuple(hosts);
                             })
      .def("__repr__", [](const View& view) {
        return "View(epoch=" + std::to_string(view.epoch.value) + ", size=" + std::to_string(view.size()) + ")";
      });
}

void define_communicator(py::module_& module) {
  using python::Communicator;
  py::class_<Communicator, std::shared_ptr<Communicator>> type(module, "Communicator");
  type.def_static("init", &Communicator::init)
      .def_property_readonly("rank", &Communicator::rank)
      .def_property_readonly("size", [](const Communicator& self) { return self.view().size(); })
      .def_property_readonly("local_rank", &Communicator::local_rank)
      .def_property_readonly("local_size", &Communicator::local_size)
      .def_property_readonly("epoch", [](const Communicator& self) { return self.view().epoch.value; })
      .def_property_readonly("view", [](const Communicator& self) { return View(self.view()); })
      .def_property_readonly("observing", &Communicator::observing);
  const auto target = py::arg("target") = py::none();
  const auto op = py::arg("op") = ReduceOp::sum;
  const auto seen = py::arg("seen") = py::none();
  type.def("allreduce", &Communicator::allreduce, py::arg("source"), target, op)
      .def("broadcast", &Communicator::broadcast, py::arg("tensor"), py::arg("root"), seen)
      .def("allgather", &Communicator::allgather, py::arg("source"), py::arg("target"), seen)
      .def("barrier", &Communicator::barrier)
      .def("allreduce_async", &Communicator::allreduce_async, py::arg("name"), py::arg("source"), target, op)
      .def("broadcast_async", &Communicator::broadcast_async, py::arg("name"), py::arg("tensor"), py::arg("root"))
      .def("allgather_async", &Communicator::allgather_async, py::arg("name"), py::arg("source"), py::arg("target"));
  type.def("register_state", &Communicator::register_state, py::arg("name"), py::arg("array"))
      .def("step", &Communicator::step)
      .def("flush", &Communicator::flush)
      .def("on_view_change", &Communicator::on_view_change, py::arg("callback"))
      .def("shutdown", &Communicator::shutdown, py::arg("timeout") = 10.0);
}

}  // namespace

PYBIND11_MODULE(_core, module) {
  module.attr("__version__") = HORA_VERSION;
  python::define_errors(module);
  define_values(module);
  py::class_<python::Handle>(module, "Handle")
      .def("done", &python::Handle::done)
      .def("wait", &python::Handle::wait, py::arg("timeout") = py::none());
  define_communicator(module);
  py::class_<python::Rendezvous>(module, "Rendezvous")
      .def_static("host", &python::Rendezvous::host, py::arg("job"), py::arg("host") = "")
      .def_property_readonly("address", &python::Rendezvous::address)
      .def_property_readonly("job", &python::Rendezvous::job)
      .def_property_readonly("secret", &python::Rendezvous::secret);
}
