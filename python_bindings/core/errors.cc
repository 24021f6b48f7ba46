#include "errors.h"

#include <exception>
#include <string>

#include "hora/hora.hpp"

namespace hora::python {

namespace py = pybind11;

namespace {

constexpr const char* kModule = "hora._core";

struct Class {
  StatusCode code;
  const char* name;
  PyObject* const* also;  // a class of Python that it is too; null: none
  const char* about;
};

const Class kClasses[] = {
    {StatusCode::invalid_argument, "InvalidArgumentError", &PyExc_ValueError, "The call is wrong: fix it."},
    {StatusCode::mismatch, "MismatchError", nullptr,
     "Ranks disagree about an operation: the same error on every rank."},
    {StatusCode::peer_failed, "PeerFailedError", nullptr,
     "A rank died and this operation could not be saved: go on, the next call works."},
    {StatusCode::fenced, "FencedError", nullptr, "This process is no longer in the job: end, or join as a new one."},
    {StatusCode::timed_out, "TimedOutError", &PyExc_TimeoutError, "The outcome is not known yet."},
    {StatusCode::try_again, "TryAgainError", nullptr, "Nothing happened: call again later."},
    {StatusCode::unsupported, "UnsupportedError", nullptr, "Not on this machine, or not in this build."},
    {StatusCode::resource, "ResourceError", &PyExc_OSError, "Memory, file descriptors or another limit."},
    {StatusCode::shut_down, "ShutDownError", nullptr, "The communicator was shut down."},
    {StatusCode::internal, "InternalError", nullptr, "A defect of hora: please report it."},
};

void raise(const Error& error) {
  const char* name = "HoraError";
  for (const Class& one : kClasses)
    if (one.code == error.code()) name = one.name;
  const py::object type = py::module_::import(kModule).attr(name);
  PyErr_SetString(type.ptr(), std::string(error.status().message()).c_str());
}

}  // namespace

void define_errors(py::module_& module) {
  const auto add = [&module](const char* name, const char* about, PyObject* bases) {
    const std::string full = std::string("hora.") + name;
    const auto type = py::reinterpret_steal<py::object>(PyErr_NewExceptionWithDoc(full.c_str(), about, bases, nullptr));
    if (!type) throw py::error_already_set();
    module.attr(name) = type;
    return type;
  };
  const py::object base =
      add("HoraError", "What hora raises. Its subclasses say what can be done about it.", PyExc_RuntimeError);
  for (const Class& one : kClasses) {
    py::tuple bases = py::make_tuple(base);
    if (one.also != nullptr) bases = py::make_tuple(base, py::handle(*one.also));
    add(one.name, one.about, bases.ptr());
  }
  py::register_local_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const Error& error) {
      raise(error);
    }
  });
}

}  // namespace hora::python
