#include "array.h"

#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

namespace hora::python {

namespace py = pybind11;

namespace {

// Of struct's format characters, in native byte order.
std::optional<dlpack::ElementType> type_of_format(std::string_view format, std::size_t bytes) {
  if (!format.empty() && (format[0] == '@' || format[0] == '=' || format[0] == '<')) format.remove_prefix(1);
  const auto type = [bytes](std::uint8_t code) {
    return dlpack::ElementType{code, static_cast<std::uint8_t>(8 * bytes), 1};
  };
  if (format == "Zf" || format == "Zd") return type(dlpack::kComplex);
  if (format.size() != 1) return std::nullopt;
  if (format == "?") return type(dlpack::kBool);
  constexpr std::string_view kSigned = "bhilqn", kUnsignedLetters = "BHILQNc", kFloating = "efd";
  if (kSigned.find(format[0]) != kSigned.npos) return type(dlpack::kInt);
  if (kUnsignedLetters.find(format[0]) != kUnsignedLetters.npos) return type(dlpack::kUnsigned);
  if (kFloating.find(format[0]) != kFloating.npos) return type(dlpack::kFloat);
  return std::nullopt;
}

std::string name_of(const dlpack::ElementType& type) {
  const std::string bits = std::to_string(type.bits);
  switch (type.code) {
    case dlpack::kInt: return "int" + bits;
    case dlpack::kUnsigned: return "uint" + bits;
    case dlpack::kFloat: return "float" + bits;
    case dlpack::kBfloat: return "bfloat" + bits;
    case dlpack::kComplex: return "complex" + bits;
    case dlpack::kBool: return "bool";
    default: return "a type of " + bits + " bits";
  }
}

std::optional<DataType> data_type_of(const dlpack::ElementType& type) {
  struct Known {
    std::uint8_t code, bits;
    DataType dtype;
  };
  constexpr std::array kKnown{
      Known{dlpack::kFloat, 32, DataType::float32}, Known{dlpack::kFloat, 64, DataType::float64},
      Known{dlpack::kFloat, 16, DataType::float16}, Known{dlpack::kBfloat, 16, DataType::bfloat16},
      Known{dlpack::kInt, 8, DataType::int8},       Known{dlpack::kInt, 16, DataType::int16},
      Known{dlpack::kInt, 32, DataType::int32},     Known{dlpack::kInt, 64, DataType::int64},
      Known{dlpack::kUnsigned, 8, DataType::uint8},
  };
  for (const Known& known : kKnown)
    if (known.code == type.code && known.bits == type.bits) return known.dtype;
  return std::nullopt;
}

std::string class_name(py::handle object) {
  return Py_TYPE(object.ptr())->tp_name;
}

py::object capsule_of(const py::object& producer) {
  const py::object make = producer.attr("__dlpack__");
  try {
    return make(py::arg("max_version") = py::make_tuple(dlpack::kMajorVersion, 0));
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_TypeError)) throw;
    return make();  // from before DLPack had versions
  }
}

[[noreturn]] void refuse_read_only(const char* role) {
  throw py::value_error(std::string(role) + " is read-only, and would be written; use a writable copy in its place");
}

}  // namespace

Array::Array(py::handle object, const char* role, Access access) : owner_(py::reinterpret_borrow<py::object>(object)) {
  if (read_buffer(role, access) || read_exchange_table(role) || read_capsule(role, access)) return;
  throw py::type_error(std::string(role) + " is a " + class_name(object) +
                       "; give an array with the buffer protocol or DLPack (NumPy, PyTorch, ...) of numbers");
}

Array::Array(Array&& other) noexcept
    : data_(other.data_),
      count_(other.count_),
      type_(other.type_),
      shape_(std::move(other.shape_)),
      owner_(std::move(other.owner_)),
      keeper_(std::move(other.keeper_)),
      buffer_(std::exchange(other.buffer_, Py_buffer{})) {}

Array::~Array() {
  if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
}

void Array::keep_memory() {
  // PyTorch's set_() and data= give a tensor other memory, and DLPack keeps no more than the tensor.
  if (buffer_.obj == nullptr && py::hasattr(owner_, "detach")) owner_ = owner_.attr("detach")();
}

bool Array::read_buffer(const char* role, Access access) {
  if (PyObject_CheckBuffer(owner_.ptr()) == 0) return false;
  Py_buffer view{};
  if (PyObject_GetBuffer(owner_.ptr(), &view, PyBUF_FORMAT | PyBUF_STRIDES) != 0) {
    PyErr_Clear();  // of a type that buffers do not have
    return false;
  }
  const auto type = type_of_format(view.format != nullptr ? view.format : "B", static_cast<std::size_t>(view.itemsize));
  if (!type) {
    PyBuffer_Release(&view);
    return false;
  }
  // The shape and strides of a Py_buffer may lie in itself: they are read before it is moved into its place.
  type_ = *type;
  data_ = view.buf;
  count_ = view.itemsize == 0 ? 0 : static_cast<std::uint64_t>(view.len / view.itemsize);
  shape_.assign(view.shape, view.shape + view.ndim);
  const bool read_only = view.readonly != 0;
  std::vector<std::int64_t> strides(view.strides, view.strides + view.ndim);
  buffer_ = view;
  if (access == Access::write && read_only) {
    PyBuffer_Release(&buffer_);
    refuse_read_only(role);
  }
  try {
    require_contiguous(strides.data(), view.itemsize, role);
  } catch (...) {
    PyBuffer_Release(&buffer_);  // the destructor does not run
    throw;
  }
  return true;
}

bool Array::read_exchange_table(const char* role) {
  const auto capsule = py::reinterpret_steal<py::object>(
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(owner_.ptr())), "__dlpack_c_exchange_api__"));
  if (!capsule) {
    PyErr_Clear();
    return false;
  }
  const auto* table =
      static_cast<const dlpack::ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), "dlpack_exchange_api"));
  if (table == nullptr) PyErr_Clear();
  while (table != nullptr && table->version.major != dlpack::kMajorVersion) table = table->older;
  if (table == nullptr || table->borrow_from_object == nullptr) return false;
  dlpack::Tensor tensor{};
  if (table->borrow_from_object(owner_.ptr(), &tensor) != 0) throw py::error_already_set();
  take(tensor, role);
  return true;
}

bool Array::read_capsule(const char* role, Access access) {
  if (!py::hasattr(owner_, "__dlpack__")) return false;
  try {
    keeper_ = capsule_of(owner_);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_BufferError)) throw;
    py::raise_from(error, PyExc_TypeError, (std::string(role) + " cannot be shared: " + error.what()).c_str());
    throw py::error_already_set();
  }
  if (PyCapsule_IsValid(keeper_.ptr(), "dltensor_versioned") != 0) {
    const auto* managed =
        static_cast<const dlpack::ManagedTensor*>(PyCapsule_GetPointer(keeper_.ptr(), "dltensor_versioned"));
    if (access == Access::write && (managed->flags & dlpack::kReadOnly) != 0) refuse_read_only(role);
    take(managed->tensor, role);
    return true;
  }
  if (PyCapsule_IsValid(keeper_.ptr(), "dltensor") == 0) return false;
  take(static_cast<const dlpack::OldManagedTensor*>(PyCapsule_GetPointer(keeper_.ptr(), "dltensor"))->tensor, role);
  return true;
}

void Array::take(const dlpack::Tensor& tensor, const char* role) {
  const std::int32_t device = tensor.device.type;
  if (device != dlpack::kCpu && device != dlpack::kCudaHost && device != dlpack::kRocmHost) {
    throw py::type_error(std::string(role) + " lies on a device (DLPack type " + std::to_string(device) + ", number " +
                         std::to_string(tensor.device.index) +
                         "); hora's Python module takes memory of the host: copy "
                         "it there first, e.g. tensor.cpu()");
  }
  if (tensor.type.lanes != 1 || tensor.type.bits % 8 != 0)
    throw py::type_error(std::string(role) + " has elements that are no whole bytes; give one of a plain type");
  type_ = tensor.type;
  data_ = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  shape_.assign(tensor.shape, tensor.shape + tensor.dimensions);
  count_ = 1;
  for (const std::int64_t extent : shape_) count_ *= static_cast<std::uint64_t>(extent);
  if (tensor.strides != nullptr) require_contiguous(tensor.strides, 1, role);
}

// `unit`: what a stride counts, in parts of an element.
void Array::require_contiguous(const std::int64_t* strides, std::int64_t unit, const char* role) const {
  std::int64_t expected = unit;
  for (std::size_t i = shape_.size(); i-- > 0 && count_ > 0;) {
    if (shape_[i] != 1 && strides[i] != expected)
      throw py::value_error(std::string(role) +
                            " is not contiguous; use a contiguous copy in its place "
                            "(numpy.ascontiguousarray(a), tensor.contiguous())");
    expected *= shape_[i];
  }
}

std::string Array::type_name() const {
  return name_of(type_);
}

Payload Array::reducible(ReduceOp op) const {
  if (const auto dtype = data_type_of(type_)) return {*dtype, count_};
  if (type_.code == dlpack::kBool) {
    if (op != ReduceOp::sum && op != ReduceOp::average) return {DataType::uint8, count_};
    throw py::type_error("allreduce: a sum of bools is no bool; use MAX for 'any', MIN for 'all', or another type");
  }
  throw py::type_error("allreduce: " + type_name() +
                       " cannot be reduced; convert it to float16, bfloat16, float32, float64, int8, int16, int32, "
                       "int64 or uint8");
}

Payload Array::movable() const {
  if (const auto dtype = data_type_of(type_)) return {*dtype, count_};
  return {DataType::uint8, bytes()};
}

}  // namespace hora::python
