#include "engine/donor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/failpoint.h"
#include "base/thread.h"

namespace hora::engine {

namespace {

// Boundaries that a newcomer may lag behind and still enter; the members then wait for it to catch up.
constexpr std::uint64_t kLagMax = 2;
// A newcomer that does not come nearer (it computes what it could skip) enters after so many boundaries all the same.
constexpr std::uint64_t kPatience = 50;

std::uint64_t result_bytes(const ResultEntry& entry, const Extent& extent) {
  if (!entry.status.ok() || extent.target == nullptr) return 0;
  const auto gathered = static_cast<std::uint64_t>(entry.outcome.contributors);
  return entry.signature.kind == Collective::allgather ? extent.bytes * gathered : extent.bytes;
}

}  // namespace

TouchedMemory::TouchedMemory(std::size_t bytes) {
  if (bytes == 0) return;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return;
  data_ = static_cast<std::byte*>(memory);
  bytes_ = bytes;
}

TouchedMemory::~TouchedMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Donation::Donation(MemberId newcomer, UniqueFd stream, std::size_t state_bytes, std::uint64_t log_bytes_max,
                   const Log& log)
    : newcomer_(newcomer),
      stream_(std::move(stream)),
      log_bytes_max_(log_bytes_max),
      log_(log),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) throw std::system_error(errno, std::generic_category(), "eventfd");
  thread_ = start_thread("hora-donation", [this, state_bytes] { run(state_bytes); });
}

Donation::~Donation() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake();
  thread_.join();
}

void Donation::copy(const StateRegistry& state) {
  if (copied_ || over() || !prepared_.load(std::memory_order_acquire)) return;  // acquire: the memory behind it
  state.copy_to(state_memory_.span());
  copied_ = true;
  HORA_FAILPOINT("donor.state_copied");
}

void Donation::cross(std::uint64_t step, const View& view, std::span<const View> later, const StateRegistry& state) {
  if (over() || !copied_) return;
  // How long it takes to catch up counts from when it has the state.
  if (linked_.load(std::memory_order_acquire) == 0) waited_since_ = step;
  if (begun_) return record(BoundaryEntry{step}, {});
  begun_ = true;
  record(SnapshotEntry{state.description(), view, step, state_memory_.span().size()}, {});
  for (const View& one : later) record(ViewEntry{one}, {});
}

bool Donation::ready(std::uint64_t step, Epoch epoch) const {
  if (!begun_ || over() || linked_.load(std::memory_order_acquire) != epoch.value) return false;
  const std::uint64_t crossed = crossed_.load(std::memory_order_acquire);
  return crossed + kLagMax >= step || step > waited_since_ + kPatience;
}

void Donation::record(const LogEntry& entry, std::span<const std::byte> payload) {
  wire::Bytes bytes = encode_entry(entry);
  {
    const MutexLock lock(mutex_);
    if (finished_ || overfull_) return;
    queued_bytes_ += bytes.size() + payload.size();
    overfull_ = queued_bytes_ > log_bytes_max_;
    queue_.push_back(std::move(bytes));
    if (!payload.empty()) queue_.emplace_back(payload.begin(), payload.end());
  }
  wake();
}

void Donation::finish() {
  {
    const MutexLock lock(mutex_);
    finished_ = true;
  }
  wake();
}

void Donation::wake() const noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(wake_.get(), &one, sizeof one);
}

void Donation::give_up(std::string_view why) {
  log_(LogLevel::warn, "join", "gave up on newcomer {:x}: {}", newcomer_.value, why);
  ::shutdown(stream_.get(), SHUT_RDWR);
  over_.store(true, std::memory_order_release);
}

void Donation::run(std::size_t state_bytes) {
  state_memory_ = TouchedMemory(state_bytes);
  if (state_memory_.span().size() != state_bytes)
    return give_up(fmt::format("no memory for a copy of {} bytes of state", state_bytes));
  state_left_ = state_memory_.span();
  prepared_.store(true, std::memory_order_release);  // release: the memory
  bool blocked = false, said_all = false;
  while (true) {
    pollfd polled[] = {{wake_.get(), POLLIN, 0},
                       {stream_.get(), static_cast<short>(blocked ? POLLIN | POLLOUT : POLLIN), 0}};
    ::poll(polled, 2, -1);
    std::uint64_t count;
    if (polled[0].revents != 0) [[maybe_unused]]
      const auto bytes = ::read(wake_.get(), &count, sizeof count);
    if (polled[1].revents & ~POLLOUT && !read_progress()) {
      if (!said_all) return give_up("it is gone");
      return over_.store(true, std::memory_order_release);
    }
    if (!send_queue()) return give_up("it is gone");
    const MutexLock lock(mutex_);
    if (stopping_) return over_.store(true, std::memory_order_release);
    if (overfull_)
      return give_up(fmt::format("it lags behind by more than {} bytes (HORA_JOIN_LOG_BYTES)", log_bytes_max_));
    blocked = sent_ < sending_.size() || !queue_.empty() || (!snapshot_next_ && !state_left_.empty());
    // The newcomer has it all once it closes: until then what it still says is read, lest the close reset the stream.
    if (finished_ && !blocked && !std::exchange(said_all, true)) ::shutdown(stream_.get(), SHUT_WR);
  }
}

// Sends the front of `data`, and advances it. False when the newcomer is gone.
bool Donation::send_some(std::span<const std::byte>& data) {
  while (!data.empty()) {
    const ssize_t sent = ::send(stream_.get(), data.data(), data.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    data = data.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

bool Donation::send_queue() {
  while (true) {
    std::span<const std::byte> rest = std::span(std::as_const(sending_)).subspan(sent_);
    if (!send_some(rest)) return false;
    sent_ = sending_.size() - rest.size();
    if (!rest.empty()) return true;
    if (!sending_.empty() && snapshot_next_) snapshot_next_ = false;  // its head is out, the state follows
    if (!snapshot_next_ && !state_left_.empty()) {
      if (!send_some(state_left_)) return false;
      if (!state_left_.empty()) return true;
      state_memory_ = TouchedMemory();
    }
    const MutexLock lock(mutex_);
    sent_ = 0;
    sending_.clear();
    if (queue_.empty()) return true;
    sending_ = std::move(queue_.front());
    queue_.pop_front();
    queued_bytes_ -= sending_.size();
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

void Donor::start(MemberId newcomer, UniqueFd stream) {
  const MutexLock lock(mutex_);
  if (!closed_) waiting_.emplace_back(newcomer, std::move(stream));
}

void Donor::on_install(const View& view) {
  const MutexLock lock(mutex_);
  installed_.push_back(view);
  for (const auto& donation : donations_)
    if (donation->begun()) donation->record(ViewEntry{view}, {});
}

std::optional<MemberId> Donor::ready(std::uint64_t step, Epoch epoch) {
  const MutexLock lock(mutex_);
  for (const auto& donation : donations_)
    if (donation->ready(step, epoch)) return donation->newcomer();
  return std::nullopt;
}

bool Donor::cross(std::uint64_t step, const View& view, bool last) {
  std::vector<Donation*> fresh;
  {
    const MutexLock lock(mutex_);
    std::erase_if(donations_, [](const auto& donation) { return donation->over(); });
    begin_waiting();
    for (const auto& donation : donations_)
      if (!last && !donation->copied()) fresh.push_back(donation.get());
  }
  // Only this thread adds and removes donations. The sentinel must not wait for the copy.
  for (Donation* donation : fresh) donation->copy(state_);
  const MutexLock lock(mutex_);
  std::erase_if(installed_, [&](const View& one) { return one.epoch <= view.epoch; });
  bool recording = false;
  for (const auto& donation : donations_) {
    donation->cross(step, view, installed_, state_);
    recording |= donation->begun();
  }
  return recording;
}

// A newcomer whose donation cannot begin loses its stream, and tries another donor.
void Donor::begin_waiting() {
  for (auto& [newcomer, stream] : waiting_) {
    log_(LogLevel::info, "join", "gives {} bytes of state to newcomer {:x}", state_.bytes(), newcomer.value);
    try {
      donations_.push_back(
          std::make_unique<Donation>(newcomer, std::move(stream), state_.bytes(), log_bytes_max_, log_));
    } catch (const std::exception& error) {
      log_(LogLevel::warn, "join", "cannot give the state to newcomer {:x}: {}", newcomer.value, error.what());
    }
  }
  waiting_.clear();
}

void Donor::finish(const View& view) {
  const MutexLock lock(mutex_);
  for (const auto& donation : donations_)
    if (view.rank_of(donation->newcomer())) donation->finish();
}

void Donor::close() {
  const MutexLock lock(mutex_);
  closed_ = true;
  waiting_.clear();
  donations_.clear();
}

void Donor::ordered(const Status& status, const Outcome& outcome, const Signature& signature, const Extent& extent) {
  record(ResultEntry{false, {}, status, outcome, signature, 0}, extent);
}

void Donor::named(std::string_view name, const Status& status, const Outcome& outcome, const Signature& signature,
                  const Extent& extent) {
  record(ResultEntry{true, std::string(name), status, outcome, signature, 0}, extent);
}

void Donor::record(ResultEntry entry, const Extent& extent) {
  entry.bytes = result_bytes(entry, extent);
  const std::span<const std::byte> result(extent.target, entry.bytes);
  const LogEntry bare(std::move(entry));
  const MutexLock lock(mutex_);
  for (const auto& donation : donations_)
    if (donation->begun()) donation->record(bare, result);
}

}  // namespace hora::engine
