#include "hora/types.hpp"

#include "hora/view.hpp"

namespace hora {

const char* to_string(DataType type) noexcept {
  switch (type) {
    case DataType::float16: return "float16";
    case DataType::bfloat16: return "bfloat16";
    case DataType::float32: return "float32";
    case DataType::float64: return "float64";
    case DataType::int8: return "int8";
    case DataType::int16: return "int16";
    case DataType::int32: return "int32";
    case DataType::int64: return "int64";
    case DataType::uint8: return "uint8";
  }
  return "unknown";
}

const char* to_string(ReduceOp op) noexcept {
  switch (op) {
    case ReduceOp::sum: return "sum";
    case ReduceOp::average: return "average";
    case ReduceOp::min: return "min";
    case ReduceOp::max: return "max";
    case ReduceOp::product: return "product";
  }
  return "unknown";
}

const char* to_string(Collective kind) noexcept {
  switch (kind) {
    case Collective::allreduce: return "allreduce";
    case Collective::broadcast: return "broadcast";
    case Collective::allgather: return "allgather";
    case Collective::barrier: return "barrier";
  }
  return "unknown";
}

const char* to_string(Transport transport) noexcept {
  switch (transport) {
    case Transport::shm: return "shm";
    case Transport::tcp: return "tcp";
    case Transport::mixed: return "mixed";
    case Transport::mpi: return "mpi";
  }
  return "unknown";
}

std::optional<Transport> parse_transport(std::string_view name) noexcept {
  for (std::uint8_t i = 0; i < kTransportCount; ++i)
    if (const auto transport = static_cast<Transport>(i); name == to_string(transport)) return transport;
  return std::nullopt;
}

}  // namespace hora
