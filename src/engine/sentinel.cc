#include "engine/sentinel.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/failpoint.h"
#include "engine/join_messages.h"

namespace hora::engine {

namespace {

constexpr Duration kLastWords = std::chrono::seconds(1);  // for those that do not read at the moment
// From the end of a data link until its peer must have died or left, and said so.
constexpr Duration kDeadLinkGrace = std::chrono::seconds(1);

std::string describe(const View& view) {
  return fmt::format("epoch {} with {} member{}", view.epoch.value, view.size(), view.size() == 1 ? "" : "s");
}

}  // namespace

Sentinel::Sentinel(elastic::Membership membership, Role role, std::map<MemberId, LocalPeer> peers,
                   const Surroundings& surroundings)
    : role_(std::move(role)),
      donor_(surroundings.donor),
      host_(surroundings.host),
      mesh_(surroundings.mesh),
      own_(surroundings.own),
      clock_(surroundings.clock),
      log_(surroundings.log),
      peers_(std::move(peers)),
      membership_(std::move(membership)) {}

Engine* Sentinel::engine() noexcept {
  Engine** const engine = std::get_if<Engine*>(&role_);
  return engine != nullptr ? *engine : nullptr;
}

void Sentinel::run(shm::LivenessWatcher& watcher) {
  watcher_ = &watcher;
  for (const auto& [id, peer] : peers_) watch_process(id, peer);
  accept_inbox();
  watch_members(membership_.view());
  execute_actions();
  while (!ending()) {
    const auto deadline = membership_.next_deadline();
    auto wake_at = deadline;
    for (const auto& [peer, cut_at] : dead_links_) wake_at = std::min(cut_at, wake_at.value_or(cut_at));
    mesh_.run_once(wake_at, *this);
    accept_inbox();
    if (!dead_links_.empty()) cut_dead_links(clock_.now());
    if (const TimePoint now = clock_.now(); deadline && now >= *deadline) membership_.on_deadline(now);
    execute_actions();
  }
  if (fenced_) mesh_.drain(clock_.now() + kLastWords);  // others may rely on what was sent before the fence
  finished_.store(1, std::memory_order_release);        // release: whoever sees the end sees what led to it
  futex_wake_all(finished_);
}

bool Sentinel::wait_finished(Duration timeout) const {
  const TimePoint deadline = clock_.now() + timeout;
  for (TimePoint now = clock_.now(); !finished() && now < deadline; now = clock_.now())
    futex_wait(finished_, 0, deadline - now);
  return finished();
}

template <typename Change>
void Sentinel::post(Change&& change) {
  {
    const MutexLock lock(mutex_);
    change(inbox_);
  }
  mesh_.wake();
}

void Sentinel::leave() {
  post([](Inbox& inbox) { inbox.leave = true; });
}

void Sentinel::stop() {
  stopping_.store(true, std::memory_order_release);
  mesh_.wake();
}

void Sentinel::add_link(control::PeerLink link) {
  post([&](Inbox& inbox) { inbox.links.push_back(std::move(link)); });
}

void Sentinel::admit(MemberId newcomer, Epoch epoch) {
  post([&](Inbox& inbox) { inbox.admission.emplace(newcomer, epoch); });
}

void Sentinel::on_data_link_down(MemberId peer) {
  post([&](Inbox& inbox) { inbox.lost.push_back(peer); });
}

void Sentinel::request_view_change(const Status& cause) {
  post([&](Inbox& inbox) { inbox.change_requests.push_back(cause); });
}

void Sentinel::on_peer_ended(MemberId member) {
  post([&](Inbox& inbox) { inbox.died.push_back(member); });
}

void Sentinel::on_self_marked() {
  post([](Inbox& inbox) { inbox.self_marked = true; });
}

void Sentinel::accept_inbox() {
  Inbox inbox;
  {
    const MutexLock lock(mutex_);
    inbox = std::exchange(inbox_, {});
  }
  for (control::PeerLink& link : inbox.links) on_link(std::move(link));
  if (inbox.admission) carry_out_admission(inbox.admission->first, inbox.admission->second);
  for (const MemberId member : inbox.died) certain_death(member);
  for (const MemberId peer : inbox.lost) dead_links_.emplace(peer, clock_.now() + kDeadLinkGrace);
  for (Status& cause : inbox.change_requests) membership_.request_view_change(std::move(cause), clock_.now());
  if (inbox.leave) membership_.leave(clock_.now());
  if (inbox.self_marked) {
    execute(elastic::Fence{Status(StatusCode::fenced,
                                  "the thread that holds this rank's liveness word ended, so the "
                                  "others take this rank for dead")});
  }
}

// Two members that live and hear each other, but pass no data, would wait in every operation for ever. Without a
// control link they suspect each other, and only one of them stays.
void Sentinel::cut_dead_links(TimePoint now) {
  std::erase_if(dead_links_, [&](const auto& entry) {
    const auto& [peer, cut_at] = entry;
    if (now < cut_at) return false;
    if (membership_.view().rank_of(peer)) mesh_.disconnect(peer);
    return true;
  });
}

// The members wait for a new view, whatever becomes of the newcomer.
void Sentinel::carry_out_admission(MemberId newcomer, Epoch epoch) {
  if (membership_.view().epoch != epoch) return;  // it came already, without the newcomer
  const auto found = newcomers_.find(newcomer);
  if (found != newcomers_.end()) membership_.admit(found->second, clock_.now());
  membership_.request_view_change(Status(StatusCode::peer_failed, "a newcomer enters"), clock_.now());
}

void Sentinel::certain_death(MemberId member) {
  const auto peer = peers_.find(member);
  std::optional<wire::Bytes> record;
  if (peer != peers_.end()) {
    peer->second.gone = true;
    if (peer->second.segment) record = peer->second.segment->read_record();
  }
  // A forked child may keep the link itself open.
  if (joining() != nullptr) joining()->newcomer.on_link_down(member);
  membership_.on_certain_death(member, std::move(record), clock_.now());
}

void Sentinel::on_message(MemberId from, std::span<const std::byte> message) {
  if (message.empty()) return;
  const auto body = message.subspan(1);
  switch (static_cast<Subject>(message[0])) {
    case Subject::membership: return membership_.on_message(from, body, clock_.now());
    case Subject::joining: return on_join_message(from, body);
    case Subject::negotiation:
    case Subject::flush:
    case Subject::device: return on_engine_message(from, message);
  }
  log_(LogLevel::warn, "sentinel", "member {:x} sent a message of unknown subject {}", from.value,
       std::to_integer<int>(message[0]));
}

void Sentinel::on_engine_message(MemberId from, std::span<const std::byte> message) {
  const auto subject = static_cast<Subject>(message[0]);
  const auto body = message.subspan(1);
  if (Engine* const engine = this->engine()) {
    if (subject == Subject::negotiation) return engine->on_negotiation_message(from, body);
    if (subject == Subject::flush) return engine->on_flush_message(from, body);
    return engine->on_device_message(from, body);
  }
  // Members may be in the view that takes this newcomer in before it is. Its device is nobody's business until then.
  if (subject != Subject::device) joining()->early.emplace_back(from, wire::Bytes(message.begin(), message.end()));
}

void Sentinel::on_link(control::PeerLink link) {
  const MemberId id = link.id;
  auto peer = host_.meet(std::move(link));
  if (!peer.ok()) return log_(LogLevel::warn, "join", "cannot meet member {:x}: {}", id.value, peer.status().message());
  watch_process(id, peer.value());
  peers_[id] = std::move(peer).value();
  if (joining() != nullptr) joining()->newcomer.on_linked(id);
}

void Sentinel::watch_process(MemberId id, const LocalPeer& peer) {
  if (!peer.pidfd) return;
  if (const Status status = mesh_.watch(peer.pidfd.get()); !status.ok())
    log_(LogLevel::warn, "sentinel", "cannot watch the process of member {:x}: {}", id.value, status.message());
}

void Sentinel::on_stream(MemberId from, UniqueFd socket) {
  if (newcomers_.contains(from)) donor_.start(from, std::move(socket));
}

void Sentinel::on_join_message(MemberId from, std::span<const std::byte> bytes) {
  const auto message = decode_join_message(bytes);
  if (!message) return log_(LogLevel::warn, "join", "member {:x} sent a malformed message", from.value);
  if (const auto* welcome = std::get_if<Welcome>(&*message)) {
    if (joining() != nullptr) joining()->newcomer.on_welcome(from, welcome->view);
    return;
  }
  const Member& newcomer = std::get<Introduction>(*message).self;
  if (newcomer.id != from || !peers_.contains(from)) return;
  newcomers_[from] = newcomer;
  welcome(from);
}

void Sentinel::welcome(MemberId newcomer) {
  // One newcomer tells another what it was told.
  const View view = joining() != nullptr ? joining()->newcomer.view() : membership_.view();
  if (view.epoch.value == 0) return;
  const wire::Bytes message = encode_join_message(Welcome{view});
  if (const Status status = mesh_.send(newcomer, with_subject(Subject::joining, message)); !status.ok())
    log_(LogLevel::warn, "join", "{}", status.message());
}

void Sentinel::on_link_down(MemberId peer) {
  newcomers_.erase(peer);
  if (const auto known = peers_.find(peer); known != peers_.end() && !known->second.pidfd) known->second.gone = true;
  if (joining() != nullptr) joining()->newcomer.on_link_down(peer);
  membership_.on_link_down(peer, clock_.now());
}

void Sentinel::on_readable(int fd) {
  mesh_.unwatch(fd);  // a process ends once
  for (const auto& [member, peer] : peers_)
    if (peer.pidfd.get() == fd) return certain_death(member);
}

// An action can fail and fence this rank; what the machine wanted after it is then void.
void Sentinel::execute_actions() {
  for (auto actions = membership_.take_actions(); !actions.empty(); actions = membership_.take_actions()) {
    for (const elastic::Action& action : actions) {
      if (ending()) return;
      std::visit([this](const auto& one) { execute(one); }, action);
    }
  }
}

void Sentinel::execute(const elastic::Freeze& action) {
  membership_.on_report(action.epoch, engine()->report(), clock_.now());
}

void Sentinel::execute(const elastic::Persist& action) {
  // What follows relies on the record: nobody may hear of a promise that could not be written down.
  if (const Status status = own_.write_record(action.record); !status.ok()) {
    const std::string why = fmt::format("this rank cannot write down what it decides: {}", status.message());
    return execute(elastic::Fence{Status(StatusCode::resource, why)});
  }
  HORA_FAILPOINT("sentinel.record_persisted");
}

void Sentinel::execute(const elastic::Send& action) {
  // A full queue closes the link, and the machine learns of that; nothing else is lost here.
  if (const Status status = mesh_.send(action.to, with_subject(Subject::membership, action.message)); !status.ok())
    log_(LogLevel::warn, "sentinel", "{}", status.message());
}

void Sentinel::execute(const elastic::Install& action) {
  for (const elastic::Departure& departure : action.departures)
    log_(departure.left ? LogLevel::info : LogLevel::warn, "elastic", "member {:x} is gone: {}", departure.member.value,
         departure.cause);
  if (const Status status = joining() != nullptr ? enter(action) : install(action); !status.ok())
    return execute(elastic::Fence{status});
  HORA_FAILPOINT("sentinel.view_installed");
  for (const Member& member : action.next.members) newcomers_.erase(member.id);
  for (const auto& [id, member] : newcomers_) welcome(id);
  log_(LogLevel::info, "elastic", "entered {}", describe(action.next));
  watch_members(action.next);
  forget_departed(action);
  // Who left in order did its part: the end of a job, where ranks leave one after the other, is no failure.
  left_in_order_ += std::count_if(action.departures.begin(), action.departures.end(),
                                  [](const elastic::Departure& departure) { return departure.left; });
  if (action.next.size() + left_in_order_ < static_cast<std::ptrdiff_t>(action.next.config.min_size)) {
    execute(elastic::Fence{
        Status(StatusCode::peer_failed,
               fmt::format("{} members remain, fewer than the {} that the job needs (HORA_MIN_SIZE, hora run --min-np)",
                           action.next.size(), action.next.config.min_size))});
  }
}

// The one place where the role changes.
Status Sentinel::enter(const elastic::Install& action) {
  const auto done = Engine::positions_of(action.verdict);
  if (!done) return {StatusCode::internal, "the verdict is malformed"};
  const auto engine = host_.enter(action.next, *done);
  if (!engine.ok()) return engine.status();
  const Joining before = std::move(std::get<Joining>(role_));
  role_ = engine.value();
  for (const auto& [from, message] : before.early) on_engine_message(from, message);
  before.newcomer.on_entered(action.next.epoch);
  return {};
}

Status Sentinel::install(const elastic::Install& action) {
  engine()->freeze();
  const bool somebody_died = !std::ranges::all_of(action.departures, &elastic::Departure::left);
  const Status prepared = host_.prepare(action.next, somebody_died);
  donor_.on_install(action.next);
  return prepared.ok() ? engine()->install(action.next, action.verdict) : prepared;
}

void Sentinel::execute(const elastic::Fence& action) {
  log_(action.cause.code() == StatusCode::shut_down ? LogLevel::debug : LogLevel::error, "elastic",
       "this rank stops: {}", action.cause.message());
  if (Engine* const engine = this->engine())
    engine->fence(action.cause);
  else
    joining()->newcomer.on_end(action.cause);
  cause_ = action.cause;
  fenced_ = true;
}

void Sentinel::execute(const elastic::Kill& action) {
  const auto peer = peers_.find(action.suspect);
  if (peer == peers_.end() || !peer->second.pidfd) return;
  log_(LogLevel::warn, "elastic", "killing member {:x}, which has been silent for too long", action.suspect.value);
  syscall(SYS_pidfd_send_signal, peer->second.pidfd.get(), SIGKILL, nullptr, 0);
}

void Sentinel::watch_members(const View& view) {
  std::vector<std::shared_ptr<const shm::Segment>> segments;
  for (const Member& member : view.members)
    if (const auto peer = peers_.find(member.id); peer != peers_.end() && peer->second.segment)
      segments.push_back(peer->second.segment);
  watcher_->set_peers(std::move(segments));
}

// Nobody reads any more what the departed have left: the install completed from it what it had to. A newcomer that
// failed stays until a view without it comes after its death was known here: others may have admitted it until then.
void Sentinel::forget_departed(const elastic::Install& installed) {
  for (auto peer = peers_.begin(); peer != peers_.end();) {
    const MemberId id = peer->first;
    const LocalPeer& left = peer->second;
    const bool departed =
        std::ranges::find(installed.departures, id, &elastic::Departure::member) != installed.departures.end();
    if (!departed && (!left.gone || installed.next.rank_of(id))) {
      ++peer;
      continue;
    }
    if (left.pidfd) mesh_.unwatch(left.pidfd.get());
    host_.forget(id);
    peer = peers_.erase(peer);
  }
}

}  // namespace hora::engine
