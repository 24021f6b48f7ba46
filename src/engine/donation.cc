#include "engine/donation.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "base/failpoint.h"
#include "base/thread.h"

namespace hora::engine {

namespace {

// Boundaries that a newcomer may lag behind and still enter; the members then wait for it to catch up.
constexpr std::uint64_t kLagMax = 2;
// A newcomer that does not come nearer (it computes what it could skip) enters after so many boundaries all the same.
constexpr std::uint64_t kPatience = 50;

}  // namespace

Donation::Donation(MemberId newcomer, UniqueFd stream, std::size_t state_bytes, std::uint64_t log_bytes_max,
                   const Log& log)
    : newcomer_(newcomer),
      stream_(std::move(stream)),
      log_bytes_max_(log_bytes_max),
      log_(log),
      queue_(log_bytes_max),
      thread_(start_thread("hora-donation", [this, state_bytes] { run(state_bytes); })) {}

Donation::~Donation() {
  stop();
  thread_.join();
}

// Nothing becomes of an edge once the donation is over.
void Donation::advance(Stage from, Stage to) noexcept {
  // release: the state's memory passes from the thread to the application; acquire: the same, on the other side.
  stage_.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

bool Donation::wants_in(std::uint64_t step, Epoch epoch) const {
  if (stage() != Stage::following || linked_.load(std::memory_order_acquire) != epoch.value) return false;
  const std::uint64_t crossed = crossed_.load(std::memory_order_acquire);
  return crossed + kLagMax >= step || step > waited_since_ + kPatience;
}

void Donation::copy(const StateRegistry& state) {
  if (stage() != Stage::ready) return;
  state.copy_to(state_memory_.span());
  advance(Stage::ready, Stage::copied);
  HORA_FAILPOINT("donor.state_copied");
}

void Donation::cross(std::uint64_t step, const View& view, std::span<const View> later, const StateRegistry& state) {
  // How long it takes to catch up counts from when it has the state.
  if (linked_.load(std::memory_order_acquire) == 0) waited_since_ = step;
  record(BoundaryEntry{step});
  if (stage() != Stage::copied) return;
  queue_.push(SnapshotEntry{state.description(), view, step, state_memory_.span().size()});
  queue_.push(std::move(state_memory_));
  for (const View& one : later) queue_.push(ViewEntry{one});
  advance(Stage::copied, Stage::following);
}

void Donation::record(const LogEntry& entry, std::span<const std::byte> payload) {
  if (stage() == Stage::following) queue_.push(entry, payload);
}

void Donation::finish() {
  if (stage() != Stage::following) return;
  advance(Stage::following, Stage::finishing);
  queue_.end(ReplayQueue::End::complete);
}

void Donation::lose() {
  if (stage() == Stage::following) queue_.end(ReplayQueue::End::no_memory);
}

void Donation::run(std::size_t state_bytes) {
  if (const Status status = give(state_bytes); !status.ok())
    log_(LogLevel::warn, "join", "gave up on newcomer {:x}: {}", newcomer_.value, status.message());
  ::shutdown(stream_.get(), SHUT_RDWR);  // also where a forked child holds it
  stage_.store(Stage::over, std::memory_order_release);
  end_.set_value();
}

// Ok when the newcomer has everything, or this member gives no more; otherwise why it was given up.
Status Donation::give(std::size_t state_bytes) {
  const Status gone(StatusCode::peer_failed, "it is gone");
  state_memory_ = TouchedMemory(state_bytes);
  if (state_memory_.span().size() != state_bytes)
    return {StatusCode::resource, fmt::format("no memory for a copy of {} bytes of state", state_bytes)};
  advance(Stage::preparing, Stage::ready);
  bool said_all = false;
  while (true) {
    const auto awaited = static_cast<short>(unsent_.empty() ? POLLIN : POLLIN | POLLOUT);
    pollfd polled[] = {{queue_.fd(), POLLIN, 0}, {stream_.get(), awaited, 0}};
    ::poll(polled, 2, -1);
    if (polled[1].revents & ~POLLOUT && !read_progress()) return said_all ? Status() : gone;
    queue_.clear_news();
    if (!send_queue()) return gone;
    switch (queue_.ended()) {
      case ReplayQueue::End::none: break;
      case ReplayQueue::End::complete:
        // The newcomer has it all once it closes: until then what it still says is read, lest the close reset the
        // stream.
        if (unsent_.empty() && !std::exchange(said_all, true)) ::shutdown(stream_.get(), SHUT_WR);
        break;
      case ReplayQueue::End::overfull:
        return {StatusCode::resource,
                fmt::format("it lags behind by more than {} bytes (HORA_JOIN_LOG_BYTES)", log_bytes_max_)};
      case ReplayQueue::End::no_memory: return {StatusCode::resource, "no memory for a result that it lacks"};
      case ReplayQueue::End::stopped: return {};
    }
  }
}

// Sends as much as the stream takes. False when the newcomer is gone.
bool Donation::send_queue() {
  while (true) {
    while (!unsent_.empty()) {
      const ssize_t sent = ::send(stream_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent < 0) return errno == EAGAIN || errno == EINTR;
      unsent_ = unsent_.subspan(static_cast<std::size_t>(sent));
    }
    sending_ = queue_.pop();
    if (!sending_) return true;
    unsent_ = sending_->bytes();
  }
}

bool Donation::read_progress() {
  std::byte buffer[16 * kProgressBytes];
  while (true) {
    const ssize_t got = ::recv(stream_.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got == 0) return false;
    if (got < 0) return errno == EAGAIN || errno == EINTR;
    progress_.insert(progress_.end(), buffer, buffer + got);
    const std::size_t whole = progress_.size() / kProgressBytes * kProgressBytes;
    if (whole == 0) continue;
    const Progress last = decode_progress(std::span(progress_).subspan(whole - kProgressBytes, kProgressBytes));
    progress_.erase(progress_.begin(), progress_.begin() + static_cast<std::ptrdiff_t>(whole));
    crossed_.store(last.step, std::memory_order_release);
    linked_.store(last.epoch.value, std::memory_order_release);
  }
}

}  // namespace hora::engine
