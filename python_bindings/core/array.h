// A tensor of Python as hora sees it: where it lies, how many elements of what, and what keeps it there.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "dlpack.h"
#include "hora/types.hpp"

namespace hora::python {

enum class Access { read, write };

// What the engine moves: elements that it can reduce, or those of other types as bytes.
struct Payload {
  DataType dtype;
  std::uint64_t count;
};

// Move-only; made and destroyed with the GIL held. Memory of the host, contiguous.
class Array {
 public:
  // Of anything with the buffer protocol (NumPy) or DLPack (PyTorch, ...), without a copy. `role` names it in errors.
  // Throws TypeError or ValueError that say what to do.
  Array(pybind11::handle object, const char* role, Access access);
  Array(Array&& other) noexcept;
  Array& operator=(Array&&) = delete;
  ~Array();

  // For memory that is used after the call that was given the array: its tensor may be given other memory meanwhile.
  void keep_memory();

  [[nodiscard]] void* data() const noexcept { return data_; }
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return count_ * bytes_per_element(); }
  [[nodiscard]] std::span<const std::int64_t> shape() const noexcept { return shape_; }
  // "float32", "bool", "complex64", ...
  [[nodiscard]] std::string type_name() const;
  [[nodiscard]] bool same_type(const Array& other) const noexcept {
    return type_.code == other.type_.code && type_.bits == other.type_.bits;
  }

  // For an allreduce. A bool is a byte that is 0 or 1: its minimum, maximum and product are right, its sum is not.
  [[nodiscard]] Payload reducible(ReduceOp op) const;
  // For operations that only move it: any type.
  [[nodiscard]] Payload movable() const;

 private:
  // Each is false when the object does not speak that protocol, or not for its type of element.
  bool read_buffer(const char* role, Access access);
  bool read_exchange_table(const char* role);
  bool read_capsule(const char* role, Access access);
  void take(const dlpack::Tensor& tensor, const char* role);
  void require_contiguous(const std::int64_t* strides, std::int64_t unit, const char* role) const;
  [[nodiscard]] std::uint64_t bytes_per_element() const noexcept { return type_.bits / 8U; }

  void* data_ = nullptr;
  std::uint64_t count_ = 0;
  dlpack::ElementType type_{};
  std::vector<std::int64_t> shape_;
  pybind11::object owner_;   // the tensor, or after keep_memory() another one of its memory
  pybind11::object keeper_;  // the capsule of a DLPack producer
  Py_buffer buffer_{};       // buffer_.obj is null where it is not by the buffer protocol
};

}  // namespace hora::python
