// Two levels: what can be done inside a host is done there, and between hosts nothing travels twice.
//
// Allreduce: the data are cut into as many slices as the largest host has ranks; on each host every slice has an owner,
// which reduces it over its host, then among the owners of that slice on all hosts, then hands it out on its host. So
// every rank moves its own slice between the hosts. A host with fewer ranks than slices has ranks that own several.
// Half precision is rounded once on the host and once between hosts, and divided on the host, by ranks alone there too.
#include <algorithm>
#include <bit>
#include <vector>

#include "collectives/algorithms.h"

namespace hora::collectives {
namespace {

// With so many hosts an owner may talk to all others at once; with more the rounds of halving and doubling are worth
// it.
constexpr int kFewHosts = 8;

class Hosts {
 public:
  explicit Hosts(const Shape& shape) {
    for (int rank = 0; rank < shape.size; ++rank) {
      const auto host = shape.hosts.empty() ? 0 : static_cast<std::size_t>(shape.hosts[static_cast<std::size_t>(rank)]);
      if (ranks_.size() <= host) ranks_.resize(host + 1);
      host_of_.push_back(host);
      position_of_.push_back(static_cast<int>(ranks_[host].size()));
      ranks_[host].push_back(rank);
      largest_ = std::max(largest_, static_cast<int>(ranks_[host].size()));
    }
  }
  [[nodiscard]] int count() const { return static_cast<int>(ranks_.size()); }
  [[nodiscard]] int largest() const { return largest_; }
  [[nodiscard]] int host_of(int rank) const { return static_cast<int>(host_of_[static_cast<std::size_t>(rank)]); }
  // Among the ranks of its host.
  [[nodiscard]] int position_of(int rank) const { return position_of_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] const std::vector<int>& ranks_of(int host) const { return ranks_[static_cast<std::size_t>(host)]; }
  // Who stands at `position` there; where there are fewer ranks, they take turns.
  [[nodiscard]] int at(int host, int position) const {
    const std::vector<int>& ranks = ranks_of(host);
    return ranks[static_cast<std::size_t>(position) % ranks.size()];
  }

 private:
  std::vector<std::vector<int>> ranks_;
  std::vector<std::size_t> host_of_;
  std::vector<int> position_of_;
  int largest_ = 0;
};

// One slice that this rank owns.
struct Owned {
  int slice;
  Region partial;  // reduced over this host
  std::vector<int> owners;
  Schedule between_hosts;
  std::uint64_t scratch = 0;
};

class TwoLevelAllreduce {
 public:
  explicit TwoLevelAllreduce(const Shape& shape)
      : shape_(shape),
        hosts_(shape),
        rank_(shape.rank.value),
        host_(hosts_.host_of(rank_)),
        local_(hosts_.ranks_of(host_)) {}

  Schedule generate() {
    for (int slice = 0; slice < hosts_.largest(); ++slice)
      if (owner_of(slice) == rank_) owned_.push_back(plan(slice));
    ScheduleBuilder builder(shape_, shape_.count, scratch_count_);
    reduce_on_host(builder);
    const std::uint32_t rounds = hosts_.count() > 1 ? owned_rounds() : 0;
    for (std::uint32_t round = 0; round < rounds; ++round) {
      builder.begin_round(1 + round);
      for (const Owned& owned : owned_)
        builder.embed(owned.between_hosts, round,
                      {owned.owners, owned.partial, cut(Buffer::result, owned.slice), owned.scratch, shape_.half});
    }
    builder.begin_round(1 + rounds);
    hand_out_on_host(builder);
    return std::move(builder).take();
  }

 private:
  [[nodiscard]] int owner_of(int slice) const { return hosts_.at(host_, slice); }
  [[nodiscard]] bool reduces_on_host() const { return local_.size() > 1 || hosts_.count() == 1 || shape_.half; }
  [[nodiscard]] Region cut(Buffer buffer, int index) const {
    return slice(buffer, shape_.count, hosts_.largest(), index);
  }

  // The allreduce of a slice among its owners.
  [[nodiscard]] Schedule between_hosts(std::uint64_t count) const {
    const Shape shape{Rank{host_}, hosts_.count(), count};
    if (hosts_.count() == 2) return direct_allreduce(shape);
    return hosts_.count() <= kFewHosts || shape_.half ? pairwise_allreduce(shape) : halving_doubling_allreduce(shape);
  }
  // Also for a rank that owns nothing.
  [[nodiscard]] std::uint32_t owned_rounds() const { return between_hosts(0).rounds; }

  Owned plan(int slice) {
    Owned owned{slice, cut(reduces_on_host() ? Buffer::result : Buffer::input, slice), {}, {}};
    for (int host = 0; host < hosts_.count(); ++host) owned.owners.push_back(hosts_.at(host, slice));
    owned.between_hosts = between_hosts(owned.partial.count);
    // What arrives from this host is used up before anything comes from the others.
    const auto arrivals = static_cast<std::uint64_t>(local_.size() - 1) * owned.partial.count;
    owned.scratch = scratch_count_;
    scratch_count_ += std::max(arrivals, owned.between_hosts.scratch_count);
    return owned;
  }

  void reduce_on_host(ScheduleBuilder& builder) {
    const int position = hosts_.position_of(rank_);
    for (std::size_t i = 1; i < local_.size(); ++i) {
      const int peer = hosts_.at(host_, position + static_cast<int>(i));
      for (int slice = 0; slice < hosts_.largest(); ++slice)
        if (owner_of(slice) == peer) builder.send(peer, cut(Buffer::input, slice));
    }
    const bool last = hosts_.count() == 1;
    for (const Owned& owned : owned_) {
      std::vector<Region> sources;
      std::uint64_t offset = owned.scratch;
      for (const int peer : local_) {
        if (peer == rank_) {
          sources.push_back(cut(Buffer::input, owned.slice));
          continue;
        }
        sources.push_back({Buffer::scratch, offset, owned.partial.count});
        offset += owned.partial.count;
        builder.receive(peer, sources.back());
      }
      if (reduces_on_host()) builder.reduce(cut(Buffer::result, owned.slice), sources, last, last || shape_.half);
    }
  }

  void hand_out_on_host(ScheduleBuilder& builder) {
    const int position = hosts_.position_of(rank_);
    for (std::size_t i = 1; i < local_.size(); ++i)
      for (const Owned& owned : owned_)
        builder.send(hosts_.at(host_, position + static_cast<int>(i)), cut(Buffer::result, owned.slice));
    for (int slice = 0; slice < hosts_.largest(); ++slice)
      if (owner_of(slice) != rank_) builder.receive(owner_of(slice), cut(Buffer::result, slice));
  }

  const Shape& shape_;
  const Hosts hosts_;
  const int rank_;
  const int host_;
  const std::vector<int>& local_;
  std::vector<Owned> owned_;
  std::uint64_t scratch_count_ = 0;
};

}  // namespace

Schedule two_level_allreduce(const Shape& shape) {
  return TwoLevelAllreduce(shape).generate();
}

// A tree over the hosts, then one on each host. The root leads its own host, the first rank every other one.
Schedule two_level_broadcast(const Shape& shape) {
  const Hosts hosts(shape);
  const int rank = shape.rank.value;
  const int host = hosts.host_of(rank);
  const int root_host = hosts.host_of(shape.root.value);
  std::vector<int> leaders;
  for (int other = 0; other < hosts.count(); ++other)
    leaders.push_back(other == root_host ? shape.root.value : hosts.ranks_of(other)[0]);
  const int leader = leaders[static_cast<std::size_t>(host)];
  const std::vector<int>& local = hosts.ranks_of(host);
  const Region input{Buffer::input, 0, shape.count};
  const Region result{Buffer::result, 0, shape.count};
  const Schedule over_hosts = tree_broadcast({Rank{host}, hosts.count(), shape.count, Rank{root_host}});
  const Schedule on_host = tree_broadcast(
      {Rank{hosts.position_of(rank)}, static_cast<int>(local.size()), shape.count, Rank{hosts.position_of(leader)}});
  const auto rounds_on_host =
      std::max(1U, static_cast<std::uint32_t>(std::bit_width(static_cast<unsigned>(hosts.largest() - 1))));
  ScheduleBuilder builder(shape, shape.count, 0);
  for (std::uint32_t round = 0; round < over_hosts.rounds; ++round) {
    builder.begin_round(round);
    if (rank == leader) builder.embed(over_hosts, round, {leaders, input, result});
  }
  for (std::uint32_t round = 0; round < rounds_on_host; ++round) {
    builder.begin_round(over_hosts.rounds + round);
    builder.embed(on_host, round, {local, result, result});
  }
  return std::move(builder).take();
}

// Each rank sends its part once to every other host, to the rank that stands where it does, which hands it on there.
Schedule two_level_allgather(const Shape& shape) {
  const Hosts hosts(shape);
  const int rank = shape.rank.value;
  const int host = hosts.host_of(rank);
  const int position = hosts.position_of(rank);
  const std::vector<int>& local = hosts.ranks_of(host);
  const Region input{Buffer::input, 0, shape.count};
  const auto part = [&](int of) {
    return Region{Buffer::result, static_cast<std::uint64_t>(of) * shape.count, shape.count};
  };
  // Ranks of other hosts whose part comes to `receiver`, of this host.
  const auto sent_to = [&](int receiver) {
    std::vector<int> ranks;
    for (int other = 0; other < shape.size; ++other)
      if (hosts.host_of(other) != host && hosts.at(host, hosts.position_of(other)) == receiver) ranks.push_back(other);
    return ranks;
  };
  ScheduleBuilder builder(shape, static_cast<std::uint64_t>(shape.size) * shape.count, 0);
  for (int i = 1; i < hosts.count(); ++i) builder.send(hosts.at((host + i) % hosts.count(), position), input);
  for (std::size_t i = 1; i < local.size(); ++i) builder.send(hosts.at(host, position + static_cast<int>(i)), input);
  for (const int other : sent_to(rank)) builder.receive(other, part(other));
  for (const int peer : local)
    if (peer != rank) builder.receive(peer, part(peer));
  builder.copy(part(rank), input);
  builder.begin_round(1);
  for (std::size_t i = 1; i < local.size(); ++i)
    for (const int other : sent_to(rank)) builder.send(hosts.at(host, position + static_cast<int>(i)), part(other));
  for (const int peer : local)
    if (peer != rank)
      for (const int other : sent_to(peer)) builder.receive(peer, part(other));
  return std::move(builder).take();
}

}  // namespace hora::collectives
