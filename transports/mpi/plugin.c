// libhora_mpi.so: the table of plugin_abi.h over the MPI that this file is compiled and linked with. No policy: what is
// sent when, and what becomes of errors, is decided in hora.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transports/mpi/plugin_abi.h"

_Static_assert(sizeof(MPI_Request) <= sizeof(hora_mpi_request), "a request fits");

static hora_mpi_request wrap(MPI_Request request) {
  hora_mpi_request wrapped = 0;
  memcpy(&wrapped, &request, sizeof(request));
  return wrapped;
}

static MPI_Request unwrap(hora_mpi_request wrapped) {
  MPI_Request request;
  memcpy(&request, &wrapped, sizeof(request));
  return request;
}

static MPI_Comm of(void* links) {
  return *(MPI_Comm*)links;
}

static void library_version(char* text, size_t bytes) {
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(version, &length);
  version[strcspn(version, "\n")] = '\0';
  snprintf(text, bytes, "%s", version);
}

static const void* library_function(void) {
  return (const void*)&MPI_Get_library_version;
}

static int state(void) {
  int started = 0, finalized = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&finalized);
  return finalized ? HORA_MPI_FINALIZED : started ? HORA_MPI_STARTED : HORA_MPI_NOT_STARTED;
}

static int level_of(int provided) {
  return provided >= MPI_THREAD_MULTIPLE     ? HORA_MPI_THREAD_MULTIPLE
         : provided >= MPI_THREAD_SERIALIZED ? HORA_MPI_THREAD_SERIALIZED
         : provided >= MPI_THREAD_FUNNELED   ? HORA_MPI_THREAD_FUNNELED
                                             : HORA_MPI_THREAD_SINGLE;
}

static int start(int level) {
  static const int kLevels[] = {MPI_THREAD_SINGLE, MPI_THREAD_FUNNELED, MPI_THREAD_SERIALIZED, MPI_THREAD_MULTIPLE};
  int provided = 0;
  const int code = MPI_Init_thread(NULL, NULL, kLevels[level], &provided);
  if (code != MPI_SUCCESS) return code;
  // A process that dies must not take this one with it.
  MPI_Comm_set_errhandler(MPI_COMM_SELF, MPI_ERRORS_RETURN);
  return MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

static int thread_level(int* level) {
  int provided = 0;
  const int code = MPI_Query_thread(&provided);
  *level = level_of(provided);
  return code;
}

static int is_main_thread(int* is_main) {
  return MPI_Is_thread_main(is_main);
}

static int world(int* rank, int* size) {
  const int code = MPI_Comm_rank(MPI_COMM_WORLD, rank);
  return code != MPI_SUCCESS ? code : MPI_Comm_size(MPI_COMM_WORLD, size);
}

static int finalize(void) {
  return MPI_Finalize();
}

static int open_links(void** links) {
  MPI_Comm* own = malloc(sizeof(MPI_Comm));
  if (own == NULL) return MPI_ERR_OTHER;
  int code = MPI_Comm_dup(MPI_COMM_WORLD, own);
  if (code == MPI_SUCCESS) code = MPI_Comm_set_errhandler(*own, MPI_ERRORS_RETURN);
  if (code != MPI_SUCCESS) {
    free(own);
    return code;
  }
  *links = own;
  return MPI_SUCCESS;
}

static int close_links(void* links) {
  const int code = MPI_Comm_free(links);
  free(links);
  return code;
}

static int share(void* links, const void* own, void* all, size_t bytes, hora_mpi_request* request) {
  MPI_Request pending;
  const int code = MPI_Iallgather(own, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, of(links), &pending);
  if (code == MPI_SUCCESS) *request = wrap(pending);
  return code;
}

static int send_standard(void* links, int to, int tag, const void* data, size_t bytes, hora_mpi_request* request) {
  MPI_Request pending;
  const int code = MPI_Isend(data, (int)bytes, MPI_BYTE, to, tag, of(links), &pending);
  if (code == MPI_SUCCESS) *request = wrap(pending);
  return code;
}

static int send_synchronous(void* links, int to, int tag, const void* data, size_t bytes, hora_mpi_request* request) {
  MPI_Request pending;
  const int code = MPI_Issend(data, (int)bytes, MPI_BYTE, to, tag, of(links), &pending);
  if (code == MPI_SUCCESS) *request = wrap(pending);
  return code;
}

static int receive_into(void* links, int from, int tag, void* data, size_t bytes, hora_mpi_request* request) {
  MPI_Request pending;
  const int code = MPI_Irecv(data, (int)bytes, MPI_BYTE, from, tag, of(links), &pending);
  if (code == MPI_SUCCESS) *request = wrap(pending);
  return code;
}

static int test(hora_mpi_request* request, int* complete) {
  MPI_Request pending = unwrap(*request);
  const int code = MPI_Test(&pending, complete, MPI_STATUS_IGNORE);
  *request = wrap(pending);
  return code;
}

static int cancel(hora_mpi_request* request) {
  MPI_Request pending = unwrap(*request);
  int code = MPI_Cancel(&pending);
  if (code == MPI_SUCCESS) code = MPI_Wait(&pending, MPI_STATUS_IGNORE);
  *request = wrap(pending);
  return code;
}

static void error_text(int code, char* text, size_t bytes) {
  char known[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, known, &length) != MPI_SUCCESS) snprintf(known, sizeof(known), "MPI error %d", code);
  snprintf(text, bytes, "%s", known);
}

#define HORA_TEXT_OF(value) #value
#define HORA_VERSION_TEXT(major, minor) HORA_TEXT_OF(major) "." HORA_TEXT_OF(minor)
#if defined(OPEN_MPI)
#define HORA_BUILT_WITH "Open MPI " HORA_VERSION_TEXT(OMPI_MAJOR_VERSION, OMPI_MINOR_VERSION)
#elif defined(I_MPI_VERSION)
#define HORA_BUILT_WITH "Intel(R) MPI Library"
#elif defined(MPICH_VERSION)
#define HORA_BUILT_WITH "MPICH " MPICH_VERSION
#else
#define HORA_BUILT_WITH "MPI " HORA_VERSION_TEXT(MPI_VERSION, MPI_SUBVERSION)
#endif

__attribute__((visibility("default"))) const hora_mpi_calls* hora_mpi_plugin(void) {
  static const hora_mpi_calls kCalls = {
      .abi_version = HORA_MPI_ABI_VERSION,
      .built_with = HORA_BUILT_WITH,
      .library_version = library_version,
      .library_function = library_function,
      .state = state,
      .start = start,
      .thread_level = thread_level,
      .is_main_thread = is_main_thread,
      .world = world,
      .finalize = finalize,
      .open = open_links,
      .close = close_links,
      .share = share,
      .send = send_standard,
      .send_synchronous = send_synchronous,
      .receive = receive_into,
      .test = test,
      .cancel = cancel,
      .error_text = error_text,
  };
  return &kCalls;
}
