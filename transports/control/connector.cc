#include "transports/control/connector.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <utility>

namespace hora::control {
namespace {

using std::chrono::milliseconds;

}  // namespace

Connector::Connector(const Identity& identity, Reception& reception, const View& view, Rank self, int own_segment,
                     const Clock& clock)
    : identity_(identity),
      reception_(reception),
      view_(view),
      self_(static_cast<std::size_t>(self.value)),
      own_segment_(own_segment),
      clock_(clock),
      connections_(view.members.size()),
      dialings_(view.members.size()) {}

Result<std::vector<Connection>> Connector::run(TimePoint deadline) {
  deadline_ = deadline;
  const TimePoint began = clock_.now();
  reception_.set_linked([this](MemberId member) { return linked(member); });
  HORA_TRY(dial_lower_ranks());
  for (;;) {
    HORA_TRY(advance());
    const std::string absent = missing();
    if (absent.empty()) break;
    if (clock_.now() >= deadline)
      return Status(StatusCode::timed_out,
                    fmt::format("{} did not connect within {} ms (HORA_START_TIMEOUT_MS)", absent,
                                std::chrono::ceil<milliseconds>(deadline - began).count()));
    poll_until(next_timer());
  }
  std::vector<Connection> made;
  for (auto& connection : connections_)
    if (connection) made.push_back(std::move(*connection));
  return made;
}

Status Connector::dial_lower_ranks() {
  for (std::size_t rank = 0; rank < self_; ++rank) {
    const Member& peer = view_.members[rank];
    auto dialing = Dialing::of_link(identity_, peer, peer.host == identity_.host, own_segment_, view_.config);
    if (!dialing.ok()) return {dialing.status().code(), fmt::format("rank {}: {}", rank, dialing.status().message())};
    dialings_[rank].emplace(std::move(*dialing));
  }
  return {};
}

Status Connector::advance() {
  const TimePoint now = clock_.now();
  for (std::size_t rank = 0; rank < self_; ++rank) {
    if (!dialings_[rank]) continue;
    const Status status = dialings_[rank]->advance(now);
    if (status.code() == StatusCode::try_again) continue;
    if (!status.ok()) return {status.code(), fmt::format("rank {}: {}", rank, status.message())};
    connections_[rank] = dialings_[rank]->take_link();
    dialings_[rank].reset();
  }
  reception_.advance();
  for (std::size_t rank = self_ + 1; rank < connections_.size(); ++rank)
    if (!connections_[rank]) connections_[rank] = reception_.take_link(view_.members[rank].id);
  return {};
}

void Connector::poll_until(TimePoint until) const {
  std::vector<pollfd> polled{{reception_.fd(), POLLIN, 0}};
  for (const auto& dialing : dialings_)
    if (dialing) dialing->add_polled(polled);
  const auto wait = std::chrono::ceil<milliseconds>(until - clock_.now()).count();
  ::poll(polled.data(), polled.size(), static_cast<int>(std::clamp<std::int64_t>(wait, 0, 60'000)));
}

TimePoint Connector::next_timer() const {
  TimePoint next = std::min(deadline_, reception_.next_timer());
  for (const auto& dialing : dialings_)
    if (dialing) next = std::min(next, dialing->next_timer());
  return next;
}

// Lower ranks are dialed by us, and never dial.
bool Connector::linked(MemberId member) const {
  const auto rank = view_.rank_of(member);
  if (!rank) return false;
  const auto index = static_cast<std::size_t>(rank->value);
  return index <= self_ || connections_[index].has_value();
}

std::string Connector::missing() const {
  std::vector<std::size_t> ranks;
  for (std::size_t rank = 0; rank < connections_.size(); ++rank)
    if (rank != self_ && !connections_[rank]) ranks.push_back(rank);
  if (ranks.empty()) return {};
  return fmt::format("rank{} {}", ranks.size() > 1 ? "s" : "", fmt::join(ranks, ", "));
}

}  // namespace hora::control
