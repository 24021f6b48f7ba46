// hora::Rendezvous for Python: hosts a job's store in this process.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "hora/rendezvous.hpp"

namespace hora::python {

class Rendezvous {
 public:
  static std::unique_ptr<Rendezvous> host(const std::string& job, const std::string& host);
  ~Rendezvous();
  Rendezvous(const Rendezvous&) = delete;
  Rendezvous& operator=(const Rendezvous&) = delete;

  [[nodiscard]] const std::string& address() const { return native_->address(); }
  [[nodiscard]] const std::string& job() const { return native_->job(); }
  [[nodiscard]] const std::string& secret() const { return native_->secret(); }

 private:
  explicit Rendezvous(hora::Rendezvous native);

  std::unique_ptr<hora::Rendezvous> native_;
  const pid_t process_;  // whose thread serves: a forked child must not wait for it
};

}  // namespace hora::python
