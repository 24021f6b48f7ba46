// How the ranks that one launching process has started on one host find the store that rank 0 hosts: rank 0 tells
// whoever connects to an abstract Unix socket, whose name all of them can work out. Others can too, so both ends check
// that the other one belongs to the same user.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "base/unique_fd.h"
#include "base/wire.h"
#include "hora/status.hpp"
#include "interfaces/clock.h"

namespace hora::engine {

// What a rank needs to take part in a job.
struct StoreAccess {
  std::string address;
  std::string job;
  std::string secret;
  friend bool operator==(const StoreAccess&, const StoreAccess&) = default;
};

// Owns a thread that sleeps until somebody asks.
class Greeter {
 public:
  // `address`: unix:@NAME. StatusCode::resource where somebody else listens there.
  static Result<std::unique_ptr<Greeter>> start(std::string_view address, const StoreAccess& told);
  ~Greeter();
  Greeter(const Greeter&) = delete;
  Greeter& operator=(const Greeter&) = delete;

 private:
  Greeter(UniqueFd listener, UniqueFd stop, const StoreAccess& told);
  void run();
  void answer(const UniqueFd& socket);

  const pid_t process_;
  const uid_t user_;
  UniqueFd listener_;
  UniqueFd stop_;
  wire::Bytes told_;
  std::thread thread_;
};

// Asks again until somebody is there. timed_out: nobody was, until `deadline`; invalid_argument: it is another user's
// process.
Result<StoreAccess> ask_greeter(std::string_view address, TimePoint deadline, const Clock& clock);

}  // namespace hora::engine
