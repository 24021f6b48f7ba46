#include "engine/observer.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/failpoint.h"

namespace hora::engine {

namespace {

bool same_call(const Signature& a, const Signature& b) {
  return a.kind == b.kind && a.dtype == b.dtype && a.op == b.op && a.count == b.count;
}

}  // namespace

Observer::Observer(Newcomer& newcomer, const StateRegistry& state, const Log& log)
    : views_(newcomer.view()), donor_(view().members.front().id), newcomer_(newcomer), state_(state), log_(log) {}

void Observer::diverged(const std::string& what) const {
  throw Error(Status(StatusCode::mismatch,
                     fmt::format("cannot follow the job: {}. A newcomer's program must make the calls that the members "
                                 "make from step() to step(); what decides about them belongs to the registered state",
                                 what)));
}

void Observer::donor_is_gone() const {
  throw Error(Status(StatusCode::peer_failed,
                     "cannot follow the job: the member that gave this newcomer its state is gone; start it again"));
}

Outcome Observer::run_ordered(const Signature& signature, const Extent& extent, const View& seen) {
  const MutexLock lock(mutex_);
  if (!following_) return {view().epoch, 0};
  const Result result = next_ordered();
  deliver(result, signature, extent, seen);
  views_.adopt(result.entry.outcome.epoch);
  if (!result.entry.status.ok()) throw Error(result.entry.status);
  return result.entry.outcome;
}

Work* Observer::submit(std::string_view name, const Signature& signature, std::span<const std::int64_t>,
                       const Extent& extent, bool) {
  const MutexLock lock(mutex_);
  Status status;
  Outcome outcome{view().epoch, 0};
  if (following_) {
    const Result result = next_named(name);
    deliver(result, signature, extent, view());
    status = result.entry.status;
    outcome = result.entry.outcome;
  }
  Work* work = works_.take(1);  // the caller's reference: it has ended when this returns
  work->finish(std::move(status), outcome);
  return work;
}

bool Observer::wait(Work& work, std::optional<Duration>) {
  const MutexLock lock(mutex_);
  views_.adopt(work.outcome.epoch);
  return true;
}

bool Observer::cross() {
  const MutexLock lock(mutex_);
  if (!following_) {
    receive_state();
    return false;
  }
  const Result wanted = next_ordered();
  if (!wanted.entry.status.ok()) throw Error(wanted.entry.status);
  if (wanted.payload.size() != sizeof(std::int64_t)) diverged("it calls step() where the members do not");
  expect_boundary();
  views_.adopt(wanted.entry.outcome.epoch);
  newcomer_.link();
  send_progress();
  HORA_FAILPOINT("observer.boundary_crossed");
  if (!names_newcomer(wanted.payload) || !await_decision(wanted.entry.outcome.epoch)) return false;
  stream_.reset();  // its end tells the donor that all has come
  return true;
}

// The members stop at this boundary until there is a new view. A donor that dies now takes its log along, but not the
// decision.
bool Observer::await_decision(Epoch epoch) {
  while (views_.installed().epoch <= epoch) {
    auto entry = try_read_entry();
    if (!entry) {
      if (newcomer_.wait_for_decision(epoch)) return true;
      donor_is_gone();
    }
    if (!std::holds_alternative<ViewEntry>(*entry)) diverged("its donor went on without a new view");
    views_.install(std::move(std::get<ViewEntry>(*entry).view));
  }
  if (newcomer_.is_in(views_.installed())) {
    if (!newcomer_.wait_for_decision(epoch)) donor_is_gone();
    return true;
  }
  views_.adopt(Epoch{epoch.value + 1});
  return false;
}

void Observer::receive_state() {
  while (true) {
    newcomer_.link();
    for (const Member& donor : newcomer_.donors())
      if (try_donor(donor)) return;
    newcomer_.wait_for_news();  // nobody could give it: there may be another view soon
  }
}

bool Observer::try_donor(const Member& donor) {
  auto stream = newcomer_.open_stream(donor);
  if (!stream.ok()) return false;
  stream_ = std::move(stream).value();
  donor_ = donor.id;
  const auto entry = try_read_entry();
  if (!entry) return false;
  if (!std::holds_alternative<SnapshotEntry>(*entry)) diverged("its donor did not begin with its state");
  const auto& snapshot = std::get<SnapshotEntry>(*entry);
  if (const Status status = state_.check(snapshot.description); !status.ok()) throw Error(status);
  for (const std::span<std::byte> piece : state_.pieces())
    if (!read_exact(piece)) return false;
  step_ = snapshot.step;
  following_ = true;
  HORA_FAILPOINT("observer.state_received");
  views_.install(snapshot.view);
  views_.adopt(snapshot.view.epoch);
  log_(LogLevel::info, "join", "received {} bytes of state of step {} from member {:x}", snapshot.bytes, step_,
       donor.id.value);
  send_progress();
  return true;
}

Observer::Result Observer::next_ordered() {
  while (ordered_.empty())
    if (!read_until_result()) diverged("it makes a call that the members did not make before their step()");
  Result result = std::move(ordered_.front());
  ordered_.pop_front();
  return result;
}

Observer::Result Observer::next_named(std::string_view name) {
  while (true) {
    if (const auto found = named_.find(name); found != named_.end() && !found->second.empty()) {
      Result result = std::move(found->second.front());
      found->second.pop_front();
      return result;
    }
    if (!read_until_result()) diverged(fmt::format("it submits '{}', which the members did not in this step", name));
  }
}

// False when there is none before the next boundary.
bool Observer::read_until_result() {
  while (!boundary_) {
    LogEntry entry = read_entry();
    if (auto* result = std::get_if<ResultEntry>(&entry)) {
      keep(std::move(*result));
      return true;
    }
    if (const auto* view = std::get_if<ViewEntry>(&entry)) views_.install(view->view);
    if (const auto* boundary = std::get_if<BoundaryEntry>(&entry)) boundary_ = boundary->step;
  }
  return false;
}

void Observer::keep(ResultEntry entry) {
  Result result{std::move(entry), {}};
  result.payload.resize(result.entry.bytes);
  read(result.payload);
  if (result.entry.named)
    named_[result.entry.name].push_back(std::move(result));
  else
    ordered_.push_back(std::move(result));
}

void Observer::expect_boundary() {
  const auto left = [this] {
    return !ordered_.empty() ||
           std::any_of(named_.begin(), named_.end(), [](const auto& waiting) { return !waiting.second.empty(); });
  };
  if (left() || read_until_result()) diverged("it calls step() before it has made all the calls of the members");
  step_ = *boundary_;
  boundary_.reset();
}

LogEntry Observer::read_entry() {
  auto entry = try_read_entry();
  if (!entry) donor_is_gone();
  return std::move(*entry);
}

// nullopt when the stream has ended.
std::optional<LogEntry> Observer::try_read_entry() {
  std::byte head[4];
  if (!read_exact(head)) return std::nullopt;
  const std::uint32_t bytes = wire::Reader(head).u32();
  if (bytes > kHeadBytesMax) throw Error(Status(StatusCode::internal, "a malformed entry of the replay log"));
  wire::Bytes body(bytes);
  if (!read_exact(body)) return std::nullopt;
  auto entry = decode_entry(body);
  if (!entry.ok()) throw Error(entry.status());
  return std::move(entry).value();
}

void Observer::read(std::span<std::byte> target) {
  if (!read_exact(target)) donor_is_gone();
}

// False when the stream has ended before.
bool Observer::read_exact(std::span<std::byte> target) {
  while (!target.empty()) {
    const ssize_t got = ::recv(stream_.get(), target.data(), target.size(), MSG_DONTWAIT);
    if (got > 0) {
      target = target.subspan(static_cast<std::size_t>(got));
      continue;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) return false;
    if (const Status end = newcomer_.ended(); !end.ok()) throw Error(end);
    // The stream of a donor that was expelled, or that died and left a forked child, may stay open.
    if (!newcomer_.may_give(donor_.load())) return false;
    pollfd polled[] = {{stream_.get(), POLLIN, 0}, {newcomer_.news(), POLLIN, 0}};
    ::poll(polled, 2, -1);
    std::uint64_t count;
    if (polled[1].revents != 0) [[maybe_unused]]
      const auto bytes = ::read(newcomer_.news(), &count, sizeof count);
  }
  return true;
}

// A full stream is no harm: the next boundary tells more.
void Observer::send_progress() {
  const wire::Bytes bytes = encode_progress({step_, newcomer_.linked_epoch()});
  [[maybe_unused]] const auto sent = ::send(stream_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Observer::deliver(const Result& result, const Signature& signature, const Extent& extent, const View& seen) const {
  if (!same_call(result.entry.signature, signature))
    diverged(fmt::format("it calls {} of {} {}, where the members called {} of {} {}", to_string(signature.kind),
                         signature.count, to_string(signature.dtype), to_string(result.entry.signature.kind),
                         result.entry.signature.count, to_string(result.entry.signature.dtype)));
  // An allgather was given room for the view that its caller has seen.
  const auto parts = signature.kind == Collective::allgather ? static_cast<std::uint64_t>(seen.size()) : 1;
  if (result.entry.status.ok() && result.payload.size() != extent.bytes * parts)
    diverged("a result has another size here");
  if (!result.payload.empty()) std::memcpy(extent.target, result.payload.data(), result.payload.size());
}

}  // namespace hora::engine
