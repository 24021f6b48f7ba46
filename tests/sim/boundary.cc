#include "sim/boundary.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "elastic/record.h"
#include "sim/cluster.h"

namespace hora::sim {

namespace {

constexpr const char* kNames[] = {"asked to join", "standing", "fetch", "state", "ready"};
constexpr Duration kForgetAfter = std::chrono::seconds(2);  // a newcomer that does not ask any more
constexpr Duration kPatience = std::chrono::seconds(1);     // at a boundary, before any view will do

void encode(wire::Writer& out, const Past& past) {
  for (const std::vector<Outcome>& outcomes : past.channels) {
    out.u32(static_cast<std::uint32_t>(outcomes.size()));
    for (const Outcome& outcome : outcomes) {
      out.boolean(outcome.broken);
      out.u32(static_cast<std::uint32_t>(outcome.elements.size()));
      for (const Contributions element : outcome.elements) out.u32(element);
    }
  }
  out.u32(static_cast<std::uint32_t>(past.named.size()));
  for (const auto& [name, outcomes] : past.named) {
    out.string(name);
    out.u32(static_cast<std::uint32_t>(outcomes.size()));
    for (const NameOutcome& outcome : outcomes) {
      out.u64(outcome.sequence);
      out.u8(static_cast<std::uint8_t>(outcome.code));
      out.string(outcome.text);
    }
  }
}

Past decode_past(wire::Reader& in) {
  Past past;
  for (std::vector<Outcome>& outcomes : past.channels) {
    outcomes.resize(in.count(5));
    for (Outcome& outcome : outcomes) {
      outcome.broken = in.boolean();
      outcome.elements.resize(in.count(4));
      for (Contributions& element : outcome.elements) element = in.u32();
    }
  }
  for (std::uint32_t names = in.count(8); names > 0; --names) {
    std::vector<NameOutcome>& outcomes = past.named[in.string()];
    outcomes.resize(in.count(13));
    for (NameOutcome& outcome : outcomes) {
      outcome.sequence = in.u64();
      outcome.code = static_cast<StatusCode>(in.u8());
      outcome.text = in.string();
    }
  }
  return past;
}

}  // namespace

void Boundary::send(int to, Kind kind, const std::optional<Standing>& standing, const Past* past) {
  wire::Writer out;
  out.u8(static_cast<std::uint8_t>(kind));
  if (standing) {
    elastic::encode(out, standing->view);
    for (const std::uint64_t position : standing->at.ended) out.u64(position);
    out.u64(standing->at.steps);
  }
  if (past != nullptr) encode(out, *past);
  cluster_.send(index_, to, Traffic::joining, out.view());
}

void Boundary::receive(int from, std::span<const std::byte> message) {
  wire::Reader in(message);
  const auto kind = static_cast<Kind>(in.below(std::size(kNames)));
  Standing where;
  if (kind != Kind::ask) {
    where.view = elastic::decode_view(in);
    for (std::uint64_t& position : where.at.ended) position = in.u64();
    where.at.steps = in.u64();
  }
  cluster_.trace(index_, fmt::format("{} from {}", kNames[static_cast<std::size_t>(kind)], from));
  switch (kind) {
    case Kind::ask:
      if (node_.outside()) return;
      asked_[from] = cluster_.now();
      if (const auto here = standing()) send(from, Kind::standing, here);
      return;
    case Kind::standing: return on_standing(from, where);
    case Kind::fetch:
      if (const auto here = standing(); here == where) {
        const Past past = node_.past();
        send(from, Kind::state, here, &past);
      }
      return;
    case Kind::state:
      past_ = decode_past(in);
      past_at_ = where.at;
      return try_ready();
    case Kind::ready:
      if (standing() == where) node_.admit(from);
      return;
  }
}

bool Boundary::stops_at(Channel channel) const {
  const std::uint64_t done = node_.steps(channel);
  const auto index = static_cast<std::size_t>(channel);
  if (done % cluster_.swarm().step_operations != 0 || left_[index] == done) return false;
  return std::any_of(asked_.begin(), asked_.end(), [this](const auto& asked) {
    return asked.second + kForgetAfter > cluster_.now() && !node_.view().rank_of(cluster_.member(asked.first).id);
  });
}

bool Boundary::holds(Channel channel) {
  const auto index = static_cast<std::size_t>(channel);
  if (!held_[index] && stops_at(channel)) {
    held_[index] = true;
    // The others may not stand here, and wait for this one; or the newcomer is gone. Any view lets all go on.
    cluster_.events().after(kPatience, [this, epoch = node_.view().epoch] {
      if (node_.running() && node_.view().epoch == epoch) node_.request_view_change();
    });
  }
  look();
  return held_[index];
}

void Boundary::look() {
  const auto here = standing();
  if (!here || told_ == here->view.epoch) return;
  told_ = here->view.epoch;
  cluster_.trace(index_, fmt::format("stands at {} {}", here->at.ended[0], here->at.ended[1]));
  for (const auto& [newcomer, when] : asked_) send(newcomer, Kind::standing, here);
}

std::optional<Boundary::Standing> Boundary::standing() const {
  if (node_.outside() || node_.data().frozen()) return std::nullopt;
  Standing here{node_.view(), {{}, node_.steps()}};
  for (const Channel channel : kChannels) {
    const auto index = static_cast<std::size_t>(channel);
    here.at.ended[index] = node_.data().done(channel);
    if (node_.data().active(channel) || (!held_[index] && !node_.work_done(channel))) return std::nullopt;
  }
  return here;
}

std::array<bool, kChannelCount> Boundary::release() {
  for (const Channel channel : kChannels)
    if (held_[static_cast<std::size_t>(channel)]) left_[static_cast<std::size_t>(channel)] = node_.steps(channel);
  return std::exchange(held_, {});
}

void Boundary::ask() {
  if (!node_.running() || !node_.outside()) return;
  if (!node_.paused())
    for (int peer = 0; peer < cluster_.swarm().total(); ++peer)
      if (peer != index_) send(peer, Kind::ask, std::nullopt);
  cluster_.events().after(cluster_.swarm().newcomer_retry, [this] { ask(); });
}

void Boundary::on_standing(int from, const Standing& where) {
  standings_[from] = where;
  const bool all = std::all_of(where.view.members.begin(), where.view.members.end(), [&](const Member& member) {
    const auto known = standings_.find(static_cast<int>(member.id.value));
    return known != standings_.end() && known->second == where;
  });
  if ((!all && !cluster_.swarm().eager_newcomers) || !node_.outside()) return;
  if (past_at_ == where.at) return try_ready();
  const auto donor = cluster_.random().below(where.view.members.size());
  send(static_cast<int>(where.view.members[donor].id.value), Kind::fetch, where);
}

void Boundary::try_ready() {
  for (const auto& [member, where] : standings_)
    if (where.at == past_at_) send(member, Kind::ready, where);
}

}  // namespace hora::sim
