#include "hora/rendezvous.hpp"

#include <utility>

#include "base/entropy.h"
#include "base/options_parser.h"
#include "base/socket_address.h"
#include "engine/hosted_store.h"

namespace hora {

Rendezvous Rendezvous::host(std::string_view job, std::string_view host) {
  std::string name(job);
  if (const Status status = check_job_name(name); !status.ok()) throw Error(status);
  const std::string address = host.empty() ? "unix:@hora-store-" + entropy_hex(8) : tcp_address(host, 0);
  auto store = engine::HostedStore::start({address, std::move(name), entropy_hex(16)});
  if (!store.ok()) throw Error(store.status());
  return Rendezvous(std::move(*store));
}

Rendezvous::Rendezvous(std::unique_ptr<engine::HostedStore> store) noexcept : store_(std::move(store)) {}
Rendezvous::Rendezvous(Rendezvous&&) noexcept = default;
Rendezvous& Rendezvous::operator=(Rendezvous&&) noexcept = default;
Rendezvous::~Rendezvous() = default;

const std::string& Rendezvous::address() const noexcept {
  return store_->address();
}
const std::string& Rendezvous::job() const noexcept {
  return store_->job();
}
const std::string& Rendezvous::secret() const noexcept {
  return store_->secret();
}

}  // namespace hora
