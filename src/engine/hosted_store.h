// The embedded store of a job, hosted by a process of its own users instead of `hora run`.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "base/log.h"
#include "elastic/store/store_server.h"
#include "hora/status.hpp"
#include "interfaces/system_clock.h"

namespace hora::engine {

class HostedStore {
 public:
  // `config.address` as StoreServer takes it. Its thread handles no signals.
  static Result<std::unique_ptr<HostedStore>> start(const store::ServerConfig& config);
  // In a forked child it leaves the parent's store alone.
  ~HostedStore();
  HostedStore(const HostedStore&) = delete;
  HostedStore& operator=(const HostedStore&) = delete;

  [[nodiscard]] const std::string& address() const noexcept { return server_->address(); }
  [[nodiscard]] const std::string& job() const noexcept { return job_; }
  [[nodiscard]] const std::string& secret() const noexcept { return secret_; }
  // As StoreServer.
  void await_departures(Duration longest) const { server_->await_departures(longest); }

 private:
  HostedStore(const store::ServerConfig& config, LogLevel level);

  const pid_t process_;
  const std::string job_;
  const std::string secret_;
  SystemClock clock_;
  const Log log_;
  std::unique_ptr<store::StoreServer> server_;
};

}  // namespace hora::engine
