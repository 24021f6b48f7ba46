// What libhora_mpi.so gives to hora: the calls of one MPI library, in types that do not depend on which one it is.
// C, so that the compiler wrapper of any MPI can build it and any build of hora can load it.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Changes with every change below. The plugin and hora must have the same one.
#define HORA_MPI_ABI_VERSION 1u
#define HORA_MPI_ENTRY "hora_mpi_plugin"

#ifdef __cplusplus
extern "C" {
#endif

// A pending operation: whatever MPI_Request is, unchanged. The plugin alone looks inside.
typedef uint64_t hora_mpi_request;

enum hora_mpi_state { HORA_MPI_NOT_STARTED, HORA_MPI_STARTED, HORA_MPI_FINALIZED };

// As MPI orders them.
enum hora_mpi_thread_level {
  HORA_MPI_THREAD_SINGLE,
  HORA_MPI_THREAD_FUNNELED,
  HORA_MPI_THREAD_SERIALIZED,
  HORA_MPI_THREAD_MULTIPLE
};

// Functions that return int give 0, or an error code for error_text(). `links` is a communicator of hora's own, so
// that its messages never meet those of the program; ranks are those of MPI_COMM_WORLD, tags are below 32768.
typedef struct hora_mpi_calls {
  uint32_t abi_version;
  const char* built_with;                             // "Open MPI 4.1", of the headers
  void (*library_version)(char* text, size_t bytes);  // of the library that was loaded; before start() too
  const void* (*library_function)(void);              // some function of it: tells the file that it was loaded from
  int (*state)(void);

  int (*start)(int level);  // MPI_Init_thread; errors are returned from now on, and not fatal
  int (*thread_level)(int* level);
  int (*is_main_thread)(int* is_main);  // the calling thread is the one that initialised MPI
  int (*world)(int* rank, int* size);
  int (*finalize)(void);

  int (*open)(void** links);  // collective over MPI_COMM_WORLD
  int (*close)(void* links);
  // Every rank's `bytes` bytes, in rank order, into `all`. Both stay valid until the request is complete.
  int (*share)(void* links, const void* own, void* all, size_t bytes, hora_mpi_request* request);
  int (*send)(void* links, int to, int tag, const void* data, size_t bytes, hora_mpi_request* request);
  // Not complete before the receiver has begun to receive.
  int (*send_synchronous)(void* links, int to, int tag, const void* data, size_t bytes, hora_mpi_request* request);
  int (*receive)(void* links, int from, int tag, void* data, size_t bytes, hora_mpi_request* request);
  int (*test)(hora_mpi_request* request, int* complete);
  int (*cancel)(hora_mpi_request* request);  // a receive; over when it returns
  void (*error_text)(int code, char* text, size_t bytes);
} hora_mpi_calls;

// The one symbol of the plugin. The table lives as long as the plugin is loaded.
typedef const hora_mpi_calls* (*hora_mpi_entry)(void);

#ifdef __cplusplus
}
#endif
