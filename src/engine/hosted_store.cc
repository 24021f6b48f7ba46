#include "engine/hosted_store.h"

#include <fmt/format.h>
#include <unistd.h>

#include <system_error>
#include <utility>

#include "base/environment.h"

namespace hora::engine {

HostedStore::HostedStore(const store::ServerConfig& config, LogLevel level)
    : process_(::getpid()),
      job_(config.job),
      secret_(config.secret),
      log_(level, fmt::format("store of {}", config.job)) {}

Result<std::unique_ptr<HostedStore>> HostedStore::start(const store::ServerConfig& config) {
  const auto level = parse_log_level(Environment::of_process());
  if (!level.ok()) return level.status();
  std::unique_ptr<HostedStore> hosted(new HostedStore(config, level.value()));
  try {
    auto server = store::StoreServer::start(config, hosted->clock_, hosted->log_);
    if (!server.ok()) return server.status();
    hosted->server_ = std::move(*server);
  } catch (const std::system_error& error) {
    return Status(StatusCode::resource,
                  fmt::format("cannot start the thread of a store: {} (ulimit -u)", error.what()));
  }
  return hosted;
}

HostedStore::~HostedStore() {
  // A forked child has none of the threads, and must not wait for one.
  if (::getpid() != process_) (void)server_.release();
}

}  // namespace hora::engine
