#include "engine/greeter.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/frame_socket.h"
#include "base/socket_address.h"
#include "base/thread.h"

namespace hora::engine {
namespace {

constexpr std::string_view kMagic = "hora greeter 1";
constexpr std::size_t kGreetingBytesMax = 4096;
constexpr int kRetryMs = 20;

wire::Bytes encode(const StoreAccess& access) {
  wire::Writer writer;
  writer.string(kMagic);
  writer.string(access.address);
  writer.string(access.job);
  writer.string(access.secret);
  return writer.take();
}

Result<StoreAccess> decode(std::span<const std::byte> frame) {
  wire::Reader reader(frame);
  const std::string magic = reader.string();
  StoreAccess access;
  access.address = reader.string();
  access.job = reader.string();
  access.secret = reader.string();
  if (!reader.finished() || magic != kMagic)
    return Status(StatusCode::mismatch, "rank 0 speaks otherwise: is it built with another version of hora?");
  return access;
}

int milliseconds_until(TimePoint deadline, const Clock& clock) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock.now()).count();
  return static_cast<int>(std::clamp<std::int64_t>(left, 0, 60'000));
}

// One try. try_again: nobody is there yet, or is not any more.
Result<StoreAccess> ask_once(std::string_view address, TimePoint deadline, const Clock& clock) {
  auto socket = dial(address);
  if (socket.status().code() == StatusCode::peer_failed) return Status(StatusCode::try_again, "nobody listens there");
  if (!socket.ok()) return socket.status();
  if (const auto user = peer_user(*socket); user != ::geteuid())
    return Status(StatusCode::invalid_argument,
                  fmt::format("a process of another user (uid {}) listens there", user ? std::to_string(*user) : "?"));
  FrameReader reader(kGreetingBytesMax);
  for (;;) {
    pollfd polled{socket->get(), POLLIN, 0};
    if (::poll(&polled, 1, milliseconds_until(deadline, clock)) == 0)
      return Status(StatusCode::try_again, "rank 0 listens there, but does not answer");
    const Status filled = reader.fill(socket->get());
    if (filled.code() == StatusCode::peer_failed)
      return Status(StatusCode::try_again, "rank 0 ended before it could tell where the store is");
    if (!filled.ok() && filled.code() != StatusCode::try_again) return filled;
    auto frame = reader.next();
    if (!frame.ok()) return frame.status();
    if (frame.value()) return decode(**frame);
  }
}

}  // namespace

Greeter::Greeter(UniqueFd listener, UniqueFd stop, const StoreAccess& told)
    : process_(::getpid()),
      user_(::geteuid()),
      listener_(std::move(listener)),
      stop_(std::move(stop)),
      told_(encode(told)) {}

Result<std::unique_ptr<Greeter>> Greeter::start(std::string_view address, const StoreAccess& told) {
  auto listener = listen_at(address);
  if (!listener.ok())
    return Status(listener.status().code(),
                  fmt::format("{}: another process of this job is rank 0, or somebody took the name",
                              listener.status().message()));
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  if (!stop) return system_error("eventfd", errno);
  std::unique_ptr<Greeter> greeter(new Greeter(std::move(*listener), std::move(stop), told));
  greeter->thread_ = start_thread("hora-greeter", [raw = greeter.get()] { raw->run(); });
  return greeter;
}

Greeter::~Greeter() {
  if (!thread_.joinable()) return;
  if (::getpid() != process_) {
    thread_.detach();  // a forked child has no such thread
    return;
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(stop_.get(), &one, sizeof one);
  thread_.join();
}

void Greeter::run() {
  bool wait = false;  // out of descriptors: whoever asks waits in the backlog
  for (;;) {
    std::array<pollfd, 2> polled{{{stop_.get(), POLLIN, 0}, {wait ? -1 : listener_.get(), POLLIN, 0}}};
    ::poll(polled.data(), polled.size(), wait ? kRetryMs : -1);
    if (polled[0].revents != 0) return;
    auto socket = accept_from(listener_);
    wait = !socket.ok() && socket.status().code() != StatusCode::try_again;
    if (socket.ok()) answer(*socket);
  }
}

// What it says fits into the empty buffer of a new socket.
void Greeter::answer(const UniqueFd& socket) {
  if (peer_user(socket) != user_) return;
  FrameWriter writer(kGreetingBytesMax);
  (void)writer.send(socket.get(), told_);
}

Result<StoreAccess> ask_greeter(std::string_view address, TimePoint deadline, const Clock& clock) {
  for (;;) {
    auto access = ask_once(address, deadline, clock);
    if (access.status().code() != StatusCode::try_again) return access;
    if (clock.now() >= deadline) return Status(StatusCode::timed_out, std::string(access.status().message()));
    ::poll(nullptr, 0, std::min(kRetryMs, milliseconds_until(deadline, clock)));
  }
}

}  // namespace hora::engine
