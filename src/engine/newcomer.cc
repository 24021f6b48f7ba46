#include "engine/newcomer.h"

#include <fmt/format.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "engine/join_messages.h"
#include "engine/sentinel.h"

namespace hora::engine {

namespace {
// Who is there answers at once; who is not must not keep the others waiting.
constexpr Duration kDialPatience = std::chrono::seconds(2);
constexpr Duration kAnswerPatience = std::chrono::seconds(1);
}  // namespace

Newcomer::Newcomer(const Member& self, int segment, control::Mesh& mesh, LinkSink sink, Duration patience,
                   const Clock& clock, const Log& log)
    : self_(self),
      segment_(segment),
      mesh_(mesh),
      sink_(std::move(sink)),
      patience_(patience),
      clock_(clock),
      log_(log),
      news_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Status Newcomer::find(const RunningJob& job) {
  const TimePoint deadline = clock_.now() + patience_;
  for (auto member = job.members.rbegin(); member != job.members.rend(); ++member) {
    if (!dial(*member, job.config)) continue;
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
  for (const Member& member : strangers) dial(member, view.config);
  for (const Member& member : silent) introduce_to(member.id);  // it may have been no member the first time
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kAnswerPatience, [this] {
    return !end_.ok() || std::all_of(view_.members.begin(), view_.members.end(), [this](const Member& member) {
      return answered_.contains(member.id) || !linked_.contains(member.id);
    });
  });
}

// True when it is linked, and was told who dialed.
bool Newcomer::dial(const Member& member, const AgreedConfig& config) {
  auto link = mesh_.dial(member, segment_, config, clock_.now() + std::min(patience_, kDialPatience));
  if (link.ok()) {
    {
      const std::lock_guard lock(mutex_);
      linked_.insert(member.id);
    }
    sink_(std::move(link).value());
    return introduce_to(member.id);
  }
  const std::lock_guard lock(mutex_);
  if (linked_.contains(member.id)) return true;  // another newcomer was faster
  log_(LogLevel::info, "join", "member {:x} does not answer: {}", member.id.value, link.status().message());
  return false;
}

bool Newcomer::introduce_to(MemberId member) {
  return mesh_.send(member, with_subject(Subject::joining, encode_join_message(Introduction{self_}))).ok();
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
  return mesh_.open_stream(donor, clock_.now() + kDialPatience);
}

// By holders of the mutex.
bool Newcomer::deserted() const {
  return view_.epoch.value > 0 && std::all_of(view_.members.begin(), view_.members.end(),
                                              [this](const Member& member) { return down_.contains(member.id); });
}

void Newcomer::throw_if_over() const {
  if (!end_.ok()) throw Error(end_);
  if (entered_.value == 0 && deserted())
    throw Error(Status(StatusCode::peer_failed, "cannot join: all members are gone, the job has ended"));
}

void Newcomer::wait_for_news() {
  std::unique_lock lock(mutex_);
  throw_if_over();
  changed_.wait_for(lock, std::chrono::seconds(1));
  throw_if_over();
}

bool Newcomer::wait_for_decision(Epoch epoch) {
  std::unique_lock lock(mutex_);
  changed_.wait(
      lock, [&] { return entered_.value > 0 || (view_.epoch > epoch && !is_in(view_)) || !end_.ok() || deserted(); });
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
    if (view.epoch > view_.epoch) view_ = view;
  }
  notify();
}

void Newcomer::on_link_down(MemberId peer) {
  {
    const std::lock_guard lock(mutex_);
    answered_.erase(peer);
    down_.insert(peer);
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
