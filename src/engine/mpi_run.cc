#include "engine/mpi_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "base/entropy.h"
#include "base/network_interface.h"
#include "base/socket_address.h"
#include "base/wire.h"

namespace hora::engine {
namespace {

// Of what one rank tells all others: more than any address, job and secret.
constexpr std::size_t kShareBytes = 512;
constexpr std::size_t kHostBytes = 8;

Status check_launch(const Options& options, const mpi::Library& library) {
  if (library.size() == options.size && library.rank() == options.rank) return {};
  const std::string launched = fmt::format("this process was started as rank {} of {}", options.rank, options.size);
  if (library.size() == options.size)
    return {StatusCode::invalid_argument,
            fmt::format("HORA_TRANSPORT=mpi: {}, but is rank {} of MPI: leave HORA_RANK to mpirun", launched,
                        library.rank())};
  return {
      StatusCode::invalid_argument,
      fmt::format("HORA_TRANSPORT=mpi: {}, but MPI counts {} rank{}. The MPI that was loaded, {}, is not the one of "
                  "the launcher: start the program with the mpirun of that MPI, or build the plugin with the mpicc "
                  "of the launcher's (cmake -DMPI_C_COMPILER=/path/to/mpicc, HORA_MPI_PLUGIN)",
                  launched, library.size(), library.size() == 1 ? "" : "s", library.description())};
}

// An address of this host that others reach, or none where all founders are here.
Result<std::string> choose_store_address(const Options& options, bool one_host) {
  if (one_host) return "unix:@hora-store-" + entropy_hex(8);
  const auto addresses = interface_addresses();
  if (!addresses.ok()) return addresses.status();
  const auto outside = std::ranges::find(addresses.value(), false, &InterfaceAddress::loopback);
  if (outside == addresses.value().end())
    return Status(
        StatusCode::unsupported,
        "HORA_TRANSPORT=mpi: the host of rank 0 has no address but loopback, where ranks of other hosts could "
        "meet: set HORA_STORE");
  const std::string pattern = options.socket_interface.empty() ? "^lo" : options.socket_interface;
  auto host = choose_host(pattern, addresses.value(), outside->host);
  if (!host.ok()) return host.status();
  return tcp_address(host.value(), 0);
}

std::string encode(const Status& status, const HostedStore* store) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(status.code()));
  writer.string(status.message());
  for (const std::string& text : {store != nullptr ? store->address() : "", store != nullptr ? store->job() : "",
                                  store != nullptr ? store->secret() : ""})
    writer.string(text);
  const auto bytes = writer.view();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Status decode(std::string_view text, Options& options) {
  wire::Reader reader(std::as_bytes(std::span(text)));
  const auto code = static_cast<StatusCode>(reader.below(static_cast<std::uint8_t>(StatusCode::internal) + 1));
  std::string message = reader.string();
  options.store = reader.string();
  options.job = reader.string();
  options.secret = reader.string();
  if (!reader.ok()) return {StatusCode::internal, "what rank 0 tells of its store is malformed"};
  return code == StatusCode::ok ? Status() : Status(code, fmt::format("rank 0: {}", message));
}

}  // namespace

Result<std::unique_ptr<MpiRun>> MpiRun::start(const Options& options, const Log& log) {
  auto library = mpi::Library::start(options.mpi_plugin);
  if (!library.ok()) return library.status();
  HORA_TRY(check_launch(options, *library.value()));
  log(LogLevel::debug, "mpi", "rank {} of {} of {}", options.rank, options.size, library.value()->description());
  return std::unique_ptr<MpiRun>(new MpiRun(std::move(library).value(), log));
}

Result<std::string> MpiRun::share(const Options& options, std::string_view own) {
  std::string padded(own);
  padded.resize(kShareBytes);
  return library_->share(padded, std::chrono::milliseconds(options.start_timeout_ms));
}

Result<std::unique_ptr<HostedStore>> MpiRun::meet(std::uint64_t host, Options& options) {
  wire::Writer writer;
  writer.u64(host);
  const std::string own(reinterpret_cast<const char*>(writer.view().data()), kHostBytes);
  auto hosts = share(options, own);
  if (!hosts.ok()) return hosts.status();
  bool one_host = true;
  for (std::size_t at = 0; at < hosts->size(); at += kShareBytes)
    one_host &= std::string_view(*hosts).substr(at, kHostBytes) == own;

  std::unique_ptr<HostedStore> store;
  std::string told;
  if (library_->rank() == 0) {
    const std::string secret = options.secret.empty() ? entropy_hex(16) : options.secret;
    auto address = choose_store_address(options, one_host);
    auto hosted = address.ok() ? HostedStore::start({address.value(), options.job, secret})
                               : Result<std::unique_ptr<HostedStore>>(address.status());
    if (hosted.ok()) store = std::move(hosted).value();
    told = encode(hosted.status(), store.get()).substr(0, kShareBytes);
  }
  auto all = share(options, told);
  if (!all.ok()) return all.status();
  HORA_TRY(decode(std::string_view(*all).substr(0, kShareBytes), options));
  return store;
}

void MpiRun::abandon() {
  if (std::exchange(abandoned_, true)) return;
  log_(LogLevel::warn, "mpi",
       "a rank died, which MPI does not outlive: hora goes on without it, and nobody may call it "
       "any more, not even to finalize it");
}

void MpiRun::finish(Duration timeout) {
  if (abandoned_) return;
  abandoned_ = true;
  if (!links_.close(timeout))
    return log_(LogLevel::warn, "mpi", "not all ranks have come to their end within {} ms: MPI is not finalized",
                std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count());
  if (const Status status = library_->finish(); !status.ok()) log_(LogLevel::warn, "mpi", "{}", status.message());
}

}  // namespace hora::engine
