#include "engine/donor.h"

#include <algorithm>
#include <exception>

namespace hora::engine {

namespace {

std::uint64_t result_bytes(const ResultEntry& entry, const Extent& extent) {
  if (!entry.status.ok() || extent.target == nullptr) return 0;
  const auto gathered = static_cast<std::uint64_t>(entry.outcome.contributors);
  return entry.signature.kind == Collective::allgather ? extent.bytes * gathered : extent.bytes;
}

}  // namespace

void Donor::start(MemberId newcomer, UniqueFd stream) {
  const MutexLock lock(arrivals_mutex_);
  arrivals_.newcomers.emplace_back(newcomer, std::move(stream));
}

void Donor::on_install(const View& view) {
  const MutexLock lock(arrivals_mutex_);
  arrivals_.views.push_back(view);
}

// Before anything is recorded: the view was told before any call could return in it.
void Donor::take_arrivals() {
  Arrivals arrived;
  {
    const MutexLock lock(arrivals_mutex_);
    arrived = std::exchange(arrivals_, {});
  }
  for (auto& newcomer : arrived.newcomers)
    if (!stopped_) waiting_.push_back(std::move(newcomer));
  for (const View& view : arrived.views) {
    installed_.push_back(view);
    for (const auto& donation : donations_) donation->record(ViewEntry{view});
  }
}

std::optional<MemberId> Donor::ready(std::uint64_t step, Epoch epoch) {
  const MutexLock lock(mutex_);
  for (const auto& donation : donations_)
    if (donation->wants_in(step, epoch)) return donation->newcomer();
  return std::nullopt;
}

bool Donor::cross(std::uint64_t step, const View& view, bool last) {
  std::vector<Donation*> fresh;
  {
    const MutexLock lock(mutex_);
    take_arrivals();
    std::erase_if(donations_, [](const auto& donation) { return donation->stage() == Donation::Stage::over; });
    begin_waiting();
    for (const auto& donation : donations_)
      if (!last && donation->stage() == Donation::Stage::ready) fresh.push_back(donation.get());
  }
  // Only this thread adds and removes donations. The sentinel must not wait for the copy.
  for (Donation* donation : fresh) donation->copy(state_);
  const MutexLock lock(mutex_);
  take_arrivals();
  std::erase_if(installed_, [&](const View& one) { return one.epoch <= view.epoch; });
  for (const auto& donation : donations_) donation->cross(step, view, installed_, state_);
  return std::ranges::any_of(donations_,
                             [](const auto& donation) { return donation->stage() == Donation::Stage::following; });
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
  take_arrivals();
  for (const auto& donation : donations_)
    if (view.rank_of(donation->newcomer())) donation->finish();
}

void Donor::drain(TimePoint deadline, const Clock& clock) {
  std::vector<const Donation*> finishing;
  {
    const MutexLock lock(mutex_);
    for (const auto& donation : donations_)
      if (donation->stage() == Donation::Stage::finishing) finishing.push_back(donation.get());
  }
  // The sentinel must not wait for them.
  for (const Donation* donation : finishing)
    if (!donation->wait_over(deadline - clock.now()))
      log_(LogLevel::warn, "join", "leaves before newcomer {:x} has caught up", donation->newcomer().value);
}

void Donor::stop() {
  const MutexLock lock(mutex_);
  stopped_ = true;
  take_arrivals();
  waiting_.clear();
  for (const auto& donation : donations_) donation->stop();
}

void Donor::ordered(const Status& status, const Outcome& outcome, const Signature& signature,
                    const Extent& extent) noexcept {
  record([&] { return ResultEntry{false, {}, status, outcome, signature, 0}; }, extent);
}

void Donor::named(std::string_view name, const Status& status, const Outcome& outcome, const Signature& signature,
                  const Extent& extent) noexcept {
  record([&] { return ResultEntry{true, std::string(name), status, outcome, signature, 0}; }, extent);
}

template <typename MakeEntry>
void Donor::record(const MakeEntry& make_entry, const Extent& extent) noexcept {
  const MutexLock lock(mutex_);
  try {
    take_arrivals();
    ResultEntry entry = make_entry();
    entry.bytes = result_bytes(entry, extent);
    const std::span<const std::byte> result(extent.target, entry.bytes);
    const LogEntry bare(std::move(entry));
    for (const auto& donation : donations_) donation->record(bare, result);
  } catch (const std::exception&) {  // the copies are as large as the results: memory may run out
    for (const auto& donation : donations_) donation->lose();
  }
}

}  // namespace hora::engine
