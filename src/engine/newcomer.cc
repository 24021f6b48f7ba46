#include "engine/newcomer.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "base/socket_address.h"
#include "engine/join_messages.h"
#include "engine/subject_link.h"

namespace hora::engine {

namespace {
// Who is there answers at once; who is not must not keep the others waiting.
constexpr Duration kDialPatience = std::chrono::seconds(2);
constexpr Duration kAnswerPatience = std::chrono::seconds(1);
}  // namespace

Result<std::unique_ptr<Newcomer>> Newcomer::create(const Member& self, int segment, control::Mesh& mesh, LinkSink sink,
                                                   Duration patience, const Clock& clock, const Log& log) {
  UniqueFd news(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!news) return system_error("eventfd", errno);
  return std::unique_ptr<Newcomer>(
      new Newcomer(self, segment, mesh, std::move(sink), patience, clock, log, std::move(news)));
}

Newcomer::Newcomer(const Member& self, int segment, control::Mesh& mesh, LinkSink sink, Duration patience,
                   const Clock& clock, const Log& log, UniqueFd news)
    : self_(self),
      segment_(segment),
      mesh_(mesh),
      sink_(std::move(sink)),
      patience_(patience),
      clock_(clock),
      log_(log),
      news_(std::move(news)),
      heard_(clock.now()) {}

Status Newcomer::find(const RunningJob& job) {
  const TimePoint deadline = clock_.now() + patience_;
  std::vector<Member> left = job.members;  // the next one last: who came late is likely to be there
  while (!left.empty() && clock_.now() < deadline) {
    const Member member = std::move(left.back());
    left.pop_back();
    const Status dialed = dial(member, job.config, deadline);
    if (dialed.code() == StatusCode::timed_out)  // so may all others of its host be: they come last
      std::ranges::stable_partition(left, [&](const Member& other) { return other.host == member.host; });
    if (!dialed.ok()) continue;
    std::unique_lock lock(mutex_);
    const auto until = std::min(kAnswerPatience, deadline - clock_.now());
    if (!changed_.wait_for(lock, until, [this] { return view_.epoch.value > 0 || !end_.ok(); })) continue;
    if (!end_.ok()) return end_;
    lock.unlock();
    link();
    return {};
  }
  return {StatusCode::timed_out,
          fmt::format("cannot join: none of the {} processes that were seen in this job answers, it has ended or is "
                      "out of reach",
                      job.members.size())};
}

void Newcomer::link() {
  View view;
  std::vector<Member> strangers, silent;
  {
    const std::lock_guard lock(mutex_);
    if (entered_.value > 0) return;
    view = view_;
    for (const Member& member : view.members) {
      if (!linked_.contains(member.id))
        strangers.push_back(member);
      else if (!answered_.contains(member.id))
        silent.push_back(member);
    }
  }
  const TimePoint deadline = clock_.now() + patience_;
  for (const Member& member : strangers) (void)dial(member, view.config, deadline);
  for (const Member& member : silent) (void)introduce_to(member.id);  // it may have been no member the first time
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kAnswerPatience, [this] {
    return !end_.ok() || std::all_of(view_.members.begin(), view_.members.end(), [this](const Member& member) {
      return answered_.contains(member.id) || !linked_.contains(member.id);
    });
  });
}

// Ok when it is linked, and was told who dialed.
Status Newcomer::dial(const Member& member, const AgreedConfig& config, TimePoint deadline) {
  auto link = mesh_.dial(member, segment_, config, std::min(deadline, clock_.now() + kDialPatience));
  if (link.ok()) {
    {
      const std::lock_guard lock(mutex_);
      linked_.insert(member.id);
    }
    sink_(std::move(link).value());
    return introduce_to(member.id);
  }
  const std::lock_guard lock(mutex_);
  if (linked_.contains(member.id)) return {};  // another newcomer was faster
  log_(LogLevel::info, "join", "member {:x} does not answer: {}", member.id.value, link.status().message());
  return link.status();
}

Status Newcomer::introduce_to(MemberId member) {
  return mesh_.send(member, with_subject(Subject::joining, encode_join_message(Introduction{self_})));
}

View Newcomer::view() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

std::vector<Member> Newcomer::donors() const {
  std::vector<Member> members = view().members;
  const auto first = static_cast<std::ptrdiff_t>(self_.id.value % members.size());
  std::rotate(members.begin(), members.begin() + first, members.end());
  std::stable_partition(members.begin(), members.end(),
                        [this](const Member& member) { return member.host == self_.host; });
  return members;
}

Epoch Newcomer::linked_epoch() const {
  const std::lock_guard lock(mutex_);
  const bool all = std::all_of(view_.members.begin(), view_.members.end(),
                               [this](const Member& member) { return answered_.contains(member.id); });
  return all ? view_.epoch : Epoch{0};
}

Result<UniqueFd> Newcomer::open_stream(const Member& donor) {
  return mesh_.open_stream(donor, view().config, clock_.now() + kDialPatience);
}

// By holders of the mutex. Why there is nobody left to join; ok while there is somebody. Who was never linked cannot
// be seen to go, so that without any link only time tells.
Status Newcomer::desertion() const {
  if (entered_.value > 0 || view_.epoch.value == 0) return {};
  const auto gone = [this](const Member& member) { return down_.contains(member.id); };
  if (std::ranges::all_of(view_.members, gone))
    return {StatusCode::peer_failed, "cannot join: all members are gone, the job has ended"};
  const auto out_of_reach = [&](const Member& member) { return gone(member) || !linked_.contains(member.id); };
  if (clock_.now() < heard_ + patience_ || !std::ranges::all_of(view_.members, out_of_reach)) return {};
  return {StatusCode::timed_out,
          fmt::format("cannot join: none of the {} members could be reached for {} ms (HORA_START_TIMEOUT_MS)",
                      view_.members.size(), std::chrono::ceil<std::chrono::milliseconds>(patience_).count())};
}

void Newcomer::throw_if_over() const {
  if (!end_.ok()) throw Error(end_);
  if (const Status why = desertion(); !why.ok()) throw Error(why);
}

bool Newcomer::may_give(MemberId donor) const {
  const std::lock_guard lock(mutex_);
  return view_.rank_of(donor).has_value() && desertion().ok();
}

void Newcomer::wait_for_news() {
  std::unique_lock lock(mutex_);
  throw_if_over();
  changed_.wait_for(lock, std::chrono::seconds(1));
  throw_if_over();
}

bool Newcomer::wait_for_decision(Epoch epoch) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] {
    return entered_.value > 0 || (view_.epoch > epoch && !is_in(view_)) || !end_.ok() || !desertion().ok();
  });
  throw_if_over();
  return entered_.value == epoch.value + 1;
}

Status Newcomer::ended() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

void Newcomer::on_linked(MemberId peer) {
  const std::lock_guard lock(mutex_);
  linked_.insert(peer);
}

void Newcomer::on_welcome(MemberId from, const View& view) {
  {
    const std::lock_guard lock(mutex_);
    answered_.insert(from);
    heard_ = clock_.now();
  }
  on_view(view);
}

void Newcomer::on_view(const View& view) {
  {
    const std::lock_guard lock(mutex_);
    if (view.epoch > view_.epoch) view_ = view;
  }
  notify();
}

void Newcomer::on_link_down(MemberId peer) {
  {
    const std::lock_guard lock(mutex_);
    answered_.erase(peer);
    if (down_.insert(peer).second) heard_ = clock_.now();
  }
  notify();
}

void Newcomer::on_entered(Epoch epoch) {
  {
    const std::lock_guard lock(mutex_);
    entered_ = epoch;
  }
  notify();
}

void Newcomer::on_end(const Status& cause) {
  {
    const std::lock_guard lock(mutex_);
    if (end_.ok()) end_ = cause;
  }
  notify();
}

void Newcomer::notify() {
  changed_.notify_all();
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto bytes = ::write(news_.get(), &one, sizeof one);
}

}  // namespace hora::engine
