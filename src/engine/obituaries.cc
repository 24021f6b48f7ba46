#include "engine/obituaries.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <utility>

#include "base/socket_address.h"
#include "base/thread.h"
#include "elastic/store/obituary.h"

namespace hora::engine {
namespace {

// How long one wait at the store lasts before it is made again. Nothing hangs on the number.
constexpr Duration kPatience = std::chrono::hours(1);

store::ClientConfig with_cancel(store::ClientConfig config, int cancel) {
  config.cancel = cancel;
  return config;
}

}  // namespace

Result<std::unique_ptr<Obituaries>> Obituaries::start(store::ClientConfig config, const Clock& clock, const Log& log,
                                                      Callback callback) {
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop) return system_error("eventfd", errno);
  std::unique_ptr<Obituaries> obituaries(new Obituaries(config, clock, log, std::move(callback), std::move(stop)));
  obituaries->thread_ = start_thread("hora-obituary", [raw = obituaries.get()] { raw->run(); });
  return obituaries;
}

Obituaries::Obituaries(const store::ClientConfig& config, const Clock& clock, const Log& log, Callback callback,
                       UniqueFd stop)
    : stop_(std::move(stop)),
      job_(config.job),
      log_(log),
      callback_(std::move(callback)),
      client_(with_cancel(config, stop_.get()), clock) {}

Obituaries::~Obituaries() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(stop_.get(), &one, sizeof one);
  if (thread_.joinable()) thread_.join();
}

void Obituaries::run() {
  for (std::uint64_t number = 1;;) {
    auto text = client_.wait(store::death_key(job_, number), kPatience);
    if (text.status().code() == StatusCode::timed_out) continue;
    if (text.status().code() == StatusCode::shut_down) return;
    if (!text.ok()) {
      log_(LogLevel::info, "obituaries", "deaths are not told any more: {}", text.status().message());
      return;
    }
    ++number;
    if (auto obituary = store::decode_obituary(*text); obituary.ok())
      callback_(obituary->dead, obituary->reason);
    else
      log_(LogLevel::warn, "obituaries", "{}", obituary.status().message());
  }
}

}  // namespace hora::engine
