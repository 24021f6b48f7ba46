// MPI as the transport of a job that mpirun started: its start, the meeting of the founders over it, and its end.
#pragma once

#include <memory>
#include <string>

#include "base/log.h"
#include "engine/hosted_store.h"
#include "hora/options.hpp"
#include "hora/status.hpp"
#include "transports/mpi/library.h"
#include "transports/mpi/mpi_pairs.h"

namespace hora::engine {

// MPI does not outlive a death: from then on no call of it is made, not even to finalize it, and the process ends
// without. While nobody has died it is finalized at the end, if it was started here.
class MpiRun {
 public:
  // What start() would load, in words, or why it could not.
  static Result<std::string> find(const std::string& plugin) { return mpi::Library::find(plugin); }
  // Loads and starts MPI, and checks that it is the one of the launcher: under another one's mpirun every process is
  // rank 0 of 1.
  static Result<std::unique_ptr<MpiRun>> start(const Options& options, const Log& log);

  // Collective over the founders. Rank 0 hosts the store, at a Unix socket where all are on one host; tells all where
  // it is, and its job and secret, which replace those of `options`. Null in other ranks.
  Result<std::unique_ptr<HostedStore>> meet(std::uint64_t host, Options& options);

  // The links of the founding view.
  [[nodiscard]] PairTransport& links() noexcept { return links_; }

  // Somebody died. Before the view without it is installed, with nothing moving.
  void abandon();
  // This rank has left in order, and nothing moves any more. Waits until all founders have come here, at most
  // `timeout`.
  void finish(Duration timeout);

 private:
  MpiRun(std::unique_ptr<mpi::Library> library, const Log& log)
      : library_(std::move(library)), log_(log), links_(*library_, log) {}
  Result<std::string> share(const Options& options, std::string_view own);

  const std::unique_ptr<mpi::Library> library_;
  const Log& log_;
  mpi::MpiPairs links_;
  bool abandoned_ = false;
};

}  // namespace hora::engine
