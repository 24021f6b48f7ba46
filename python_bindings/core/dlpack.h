// The part of DLPack 1.x (dmlc/dlpack) that a consumer reads: tensors, their capsules, and the C exchange table that a
// tensor's type may offer. Layouts are those of the standard, in our names.
#pragma once

#include <cstdint>

namespace hora::python::dlpack {

// Device types.
inline constexpr std::int32_t kCpu = 1;
inline constexpr std::int32_t kCuda = 2;
inline constexpr std::int32_t kCudaHost = 3;
inline constexpr std::int32_t kRocmHost = 11;

// Codes of element types.
inline constexpr std::uint8_t kInt = 0;
inline constexpr std::uint8_t kUnsigned = 1;
inline constexpr std::uint8_t kFloat = 2;
inline constexpr std::uint8_t kBfloat = 4;
inline constexpr std::uint8_t kComplex = 5;
inline constexpr std::uint8_t kBool = 6;

inline constexpr std::uint32_t kMajorVersion = 1;
inline constexpr std::uint64_t kReadOnly = 1;  // a flag of ManagedTensor

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

struct Device {
  std::int32_t type;
  std::int32_t index;
};

struct ElementType {
  std::uint8_t code;
  std::uint8_t bits;
  std::uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  std::int32_t dimensions;
  ElementType type;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; null: contiguous
  std::uint64_t byte_offset;
};

// In a capsule "dltensor_versioned".
struct ManagedTensor {
  Version version;
  void* context;
  void (*deleter)(ManagedTensor*);
  std::uint64_t flags;
  Tensor tensor;
};

// In a capsule "dltensor", of producers before version 1.
struct OldManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(OldManagedTensor*);
};

// In a capsule "dlpack_exchange_api", the attribute __dlpack_c_exchange_api__ of a tensor's type.
struct ExchangeTable {
  Version version;
  const ExchangeTable* older;
  void* allocate;
  int (*managed_from_object)(void* object, ManagedTensor** out);
  void* managed_to_object;
  int (*borrow_from_object)(void* object, Tensor* out);  // optional; valid as long as the object is
  int (*current_work_stream)(std::int32_t device_type, std::int32_t device_index, void** stream);
};

}  // namespace hora::python::dlpack
