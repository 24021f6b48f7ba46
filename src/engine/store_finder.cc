#include "engine/store_finder.h"

#include <fmt/format.h>

#include <utility>

#include "base/entropy.h"
#include "base/socket_address.h"

namespace hora::engine {
namespace {

bool is_tcp(const Options& options) {
  return options.meeting.starts_with("tcp:");
}

Status check_hosts(const Options& options) {
  if (is_tcp(options) || options.local_size.value_or(options.size) >= options.size) return {};
  return {StatusCode::invalid_argument,
          fmt::format("only {} of {} ranks are on this host: set HORA_STORE=HOST:PORT for all of them, an address of "
                      "the host of rank 0 and a free port there, and HORA_SECRET, some word that only they know "
                      "(mpirun -x HORA_STORE -x HORA_SECRET; mpiexec -genvlist; torchrun and srun pass them on)",
                      *options.local_size, options.size)};
}

// The store itself is where all meet.
Result<FoundStore> host_for_all_hosts(const Options& options, const Log& log) {
  FoundStore found;
  auto hosted = HostedStore::start({options.meeting, options.job, options.secret});
  if (!hosted.ok())
    return Status(hosted.status().code(),
                  fmt::format("HORA_STORE: rank 0 {} (it hosts the store, so this is an address of its host)",
                              hosted.status().message()));
  if (options.secret.empty())
    log(LogLevel::warn, "store", "HORA_SECRET is not set: whoever reaches {} can take part in the job",
        options.meeting);
  found.hosted = std::move(*hosted);
  return found;
}

Result<FoundStore> host_for_this_host(const Options& options) {
  FoundStore found;
  const std::string secret = options.secret.empty() ? entropy_hex(16) : options.secret;
  auto hosted = HostedStore::start({"unix:@hora-store-" + entropy_hex(8), options.job, secret});
  if (!hosted.ok()) return hosted.status();
  auto greeter = Greeter::start(options.meeting, {hosted.value()->address(), options.job, secret});
  if (!greeter.ok()) return greeter.status();
  found.hosted = std::move(*hosted);
  found.greeter = std::move(*greeter);
  return found;
}

Result<StoreAccess> ask_rank_0(const Options& options, const Clock& clock) {
  if (is_tcp(options)) return StoreAccess{options.meeting, options.job, options.secret};
  auto access = ask_greeter(options.meeting, clock.now() + std::chrono::milliseconds(options.start_timeout_ms), clock);
  if (access.ok()) return access;
  const bool late = access.status().code() == StatusCode::timed_out;
  const std::string when =
      late ? fmt::format("rank 0 did not come within {} ms (HORA_START_TIMEOUT_MS)", options.start_timeout_ms)
           : "rank 0 cannot be met";
  return Status(access.status().code(), fmt::format("{} at {}: {}", when, options.meeting, access.status().message()));
}

}  // namespace

Result<FoundStore> find_store(const Options& options, const Clock& clock, const Log& log) {
  HORA_TRY(check_hosts(options));
  FoundStore found;
  if (options.rank == 0) {
    auto hosting = is_tcp(options) ? host_for_all_hosts(options, log) : host_for_this_host(options);
    if (!hosting.ok()) return hosting.status();
    found = std::move(*hosting);
    found.access = {found.hosted->address(), found.hosted->job(), found.hosted->secret()};
    return found;
  }
  auto access = ask_rank_0(options, clock);
  if (!access.ok()) return access.status();
  found.access = std::move(*access);
  return found;
}

}  // namespace hora::engine
