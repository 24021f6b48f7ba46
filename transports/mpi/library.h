// The MPI of this process, through the plugin. hora itself links no MPI: nothing here runs unless HORA_TRANSPORT=mpi.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "base/time.h"
#include "hora/status.hpp"
#include "transports/mpi/plugin_abi.h"

namespace hora::mpi {

// Started by start() unless the program had done so; then used until finish(), or until abandon() after a death.
//
// Which threads may call MPI. From MPI_THREAD_SERIALIZED on, any: whoever holds the engine's token calls, so there is
// one call at a time. Below, only the thread that initialised MPI: may_call() is false on others, for which nothing
// moves. So a program that called plain MPI_Init waits for hora's operations in that thread. A thread of hora's own
// that makes all calls would be against the same rule, since it is not the one that initialised.
// With less than MPI_THREAD_MULTIPLE the program makes no MPI calls of its own while others of its threads use hora.
//
// Destruction makes no call: what is not over by then is left to the end of the process.
class Library {
 public:
  // `plugin`: its path; empty: beside this library, else where the loader looks. `level` is what is asked for where
  // MPI is not initialised yet. Collective over the processes that mpirun started, without a deadline: that is MPI's.
  static Result<std::unique_ptr<Library>> start(const std::string& plugin,
                                                hora_mpi_thread_level level = HORA_MPI_THREAD_MULTIPLE);
  // What start() would load, in words, or why it could not. MPI is loaded, not started.
  static Result<std::string> find(const std::string& plugin);
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  // "Open MPI v4.1.4 (/usr/lib/.../libmpi.so.40)", for errors and reports.
  [[nodiscard]] std::string description() const;
  [[nodiscard]] bool may_any_thread_call() const noexcept { return any_thread_; }
  [[nodiscard]] bool may_call() const noexcept {
    return any_thread_ || std::this_thread::get_id() == initialising_thread_;
  }

  // Collective: what every rank gives, in rank order; all give as much. Waits for the others, at most `timeout`.
  Result<std::string> share(const std::string& own, Duration timeout);

  // Of hora's own communicator.
  enum class Mode : bool { at_once, when_received };  // complete when MPI has passed it on, or when it is received
  Status send(int to, int tag, std::span<const std::byte> data, Mode mode, hora_mpi_request& request);
  Status receive(int from, int tag, std::span<std::byte> data, hora_mpi_request& request);
  Result<bool> test(hora_mpi_request& request);
  Status cancel(hora_mpi_request& request);

  // Collective; nothing is under way any more. Ends MPI where start() began it.
  Status finish();

 private:
  Library(const hora_mpi_calls& calls, std::string version);
  static Result<std::unique_ptr<Library>> open(const std::string& plugin);
  Status initialise(hora_mpi_thread_level level);
  [[nodiscard]] Status error(const char* what, int code) const;

  const hora_mpi_calls& calls_;
  const std::string version_;
  const std::thread::id initialising_thread_;
  void* links_ = nullptr;
  int rank_ = 0;
  int size_ = 1;
  bool any_thread_ = false;
  bool started_here_ = false;
};

}  // namespace hora::mpi
