// Reads the deaths that the job's launcher tells through the store, for a rank whose peers on other hosts may die out
// of its sight.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "base/log.h"
#include "base/unique_fd.h"
#include "elastic/store/store_client.h"
#include "hora/status.hpp"
#include "hora/types.hpp"
#include "interfaces/clock.h"

namespace hora::engine {

// One thread that sleeps in the store until the next death is told. It ends by itself when the store is lost: the
// launcher that hosts it tells no more then, and other witnesses remain.
class Obituaries {
 public:
  // Called on the thread of this object, once for each death in the order in which they were told, also for those that
  // were told before the start. The dead may be of no view that the receiver knows.
  using Callback = std::function<void(MemberId dead, std::string_view reason)>;

  // `clock` and `log` outlive it. A cancel descriptor in `config` is replaced.
  static Result<std::unique_ptr<Obituaries>> start(store::ClientConfig config, const Clock& clock, const Log& log,
                                                   Callback callback);
  // No callback runs any more once this returns; it waits for one that runs, and for nothing else.
  ~Obituaries();
  Obituaries(const Obituaries&) = delete;
  Obituaries& operator=(const Obituaries&) = delete;

 private:
  Obituaries(const store::ClientConfig& config, const Clock& clock, const Log& log, Callback callback, UniqueFd stop);

  void run();

  UniqueFd stop_;
  const std::string job_;
  const Log& log_;
  Callback callback_;
  store::StoreClient client_;
  std::thread thread_;
};

}  // namespace hora::engine
