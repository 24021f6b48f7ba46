#include "options.h"

#include <pybind11/stl.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "hora/hora.hpp"

namespace hora::python {

namespace py = pybind11;

namespace {

template <typename T>
void assign(T& field, py::handle value) {
  field = py::cast<T>(value);
}

template <typename T>
void assign(std::optional<T>& field, py::handle value) {
  field = py::cast<std::optional<T>>(value);
}

void assign(std::optional<Transport>& field, py::handle value) {
  if (value.is_none()) return field.reset();
  const auto name = py::cast<std::string>(value);
  if (name == "shm") return void(field = Transport::shm);
  if (name == "tcp") return void(field = Transport::tcp);
  if (name == "mixed") return void(field = Transport::mixed);
  if (name == "mpi") return void(field = Transport::mpi);
  throw py::value_error("transport: '" + name + "' is not shm, tcp, mixed or mpi");
}

// What a field says about this process: how it works, or who it is in which job. A keyword that says who puts out of
// force what the environment says about that, with what follows from it (`whose`).
enum class Says { how, who, whose };

struct Field {
  std::string_view name;
  void (*set)(Options& options, py::handle value);
  void (*reset)(Options& options);
  Says says;
};

template <auto kMember>
constexpr Field field(std::string_view name, Says says = Says::how) {
  return {name, [](Options& options, py::handle value) { assign(options.*kMember, value); },
          [](Options& options) { options.*kMember = Options().*kMember; }, says};
}

constexpr std::array kFields{
    field<&Options::rank>("rank", Says::who),
    field<&Options::size>("size", Says::who),
    field<&Options::job>("job", Says::who),
    field<&Options::store>("store", Says::who),
    field<&Options::secret>("secret", Says::whose),
    field<&Options::local_rank>("local_rank", Says::whose),
    field<&Options::local_size>("local_size", Says::whose),
    field<&Options::meeting>("meeting", Says::who),
    field<&Options::start_timeout_ms>("start_timeout_ms"),
    field<&Options::silence_ms>("silence_ms"),
    field<&Options::stall_warning_ms>("stall_warning_ms"),
    field<&Options::operation_timeout_ms>("operation_timeout_ms"),
    field<&Options::min_size>("min_size"),
    field<&Options::fusion_bytes>("fusion_bytes"),
    field<&Options::chunk_bytes>("chunk_bytes"),
    field<&Options::one_shot_bytes>("one_shot_bytes"),
    field<&Options::transport>("transport"),
    field<&Options::mpi_plugin>("mpi_plugin"),
    field<&Options::sockets_per_pair>("sockets_per_pair"),
    field<&Options::socket_interface>("socket_interface"),
    field<&Options::port_first>("port_first"),
    field<&Options::port_last>("port_last"),
    field<&Options::process>("process", Says::whose),
    field<&Options::join>("join", Says::whose),
    field<&Options::join_log_bytes>("join_log_bytes"),
    field<&Options::launch_token>("launch_token", Says::whose),
    field<&Options::kill_suspects>("kill_suspects"),
};

const Field& find(const std::string& name) {
  std::string known;
  for (const Field& one : kFields) {
    if (one.name == name) return one;
    known += (known.empty() ? "" : ", ") + std::string(one.name);
  }
  throw py::type_error("Communicator.init: there is no option '" + name + "'; there are " + known);
}

}  // namespace

Options options_of(const py::kwargs& keywords) {
  auto options = Options::from_environment();
  if (!options.ok()) throw Error(options.status());
  bool says_who = false;
  for (const auto& [name, value] : keywords) says_who |= find(py::cast<std::string>(name)).says == Says::who;
  if (says_who) {
    options->launcher = Options().launcher;
    for (const Field& one : kFields)
      if (one.says != Says::how) one.reset(*options);
  }
  for (const auto& [name, value] : keywords) {
    const Field& one = find(py::cast<std::string>(name));
    try {
      one.set(*options, value);
    } catch (const py::cast_error&) {
      throw py::type_error("Communicator.init: " + std::string(one.name) + " cannot be " +
                           py::cast<std::string>(py::repr(value)));
    }
  }
  return *options;
}

}  // namespace hora::python
