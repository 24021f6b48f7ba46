// Hosts the store at which the ranks of a job meet, in this process, for jobs that `hora run` does not start.
//
//   auto rendezvous = hora::Rendezvous::host("my-job");       // in one process, which may be a rank itself
//   // pass address, job and secret on to all ranks, by whatever already connects them; then, in each rank:
//   hora::Options options = hora::Options::from_environment().value();
//   options.rank = rank, options.size = size;
//   options.store = address, options.job = job, options.secret = secret;
//   auto comm = hora::Communicator::init(options);
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "hora/export.hpp"
#include "hora/hora.hpp"

namespace hora {

namespace engine {
class HostedStore;
}  // namespace engine

// Serves until it is destroyed. The ranks need it while they start and while newcomers join; once Communicator::init()
// has returned on every rank, its end has no effect on those that are there. Movable; a moved-from one hosts nothing
// and can only be assigned to or destroyed. Owns one thread, which handles no signals.
class HORA_EXPORT Rendezvous {
 public:
  // `job`: 1 to 64 letters, digits, '.', '_' and '-'; two jobs on one machine need two names. `host`: the numeric
  // address to listen at, for ranks of other hosts (any free port); empty: a Unix socket, for ranks of this host alone.
  // Throws Error: invalid_argument for a name or an address that is none, resource where the address cannot be listened
  // at or a limit of the system is reached.
  static Rendezvous host(std::string_view job, std::string_view host = "");

  Rendezvous(Rendezvous&&) noexcept;
  Rendezvous& operator=(Rendezvous&&) noexcept;
  ~Rendezvous();

  // For Options::store, Options::job and Options::secret. The secret is random; who knows it can take part in the job.
  [[nodiscard]] const std::string& address() const noexcept;
  [[nodiscard]] const std::string& job() const noexcept;
  [[nodiscard]] const std::string& secret() const noexcept;

 private:
  explicit Rendezvous(std::unique_ptr<engine::HostedStore> store) noexcept;
  std::unique_ptr<engine::HostedStore> store_;
};

}  // namespace hora
