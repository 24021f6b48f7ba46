// A plugin of another version of hora.
#include <stddef.h>

#include "transports/mpi/plugin_abi.h"

__attribute__((visibility("default"))) const hora_mpi_calls* hora_mpi_plugin(void) {
  static const hora_mpi_calls kCalls = {.abi_version = HORA_MPI_ABI_VERSION + 1};
  return &kCalls;
}
