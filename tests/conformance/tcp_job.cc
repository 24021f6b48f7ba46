#include "tcp_job.h"

#include <map>
#include <utility>
#include <vector>

#include "collectives/schedule_group.h"
#include "transports/tcp/socket_pairs.h"
#include "unit/tcp/connected.h"

namespace hora::conformance {
namespace {

using tcp::Connected;

class TcpJob final : public Job {
 public:
  TcpJob(const View& founding, bool shares_memory)
      : sockets_per_pair_(founding.config.sockets_per_pair), shares_memory_(shares_memory) {
    std::vector<std::unique_ptr<tcp::SocketPairs>> links;
    for (const Member& member : founding.members) links.push_back(open(member));
    for (std::size_t rank = 0; rank < links.size(); ++rank)
      groups_.push_back(
          std::make_unique<collectives::ScheduleGroup>(std::move(links[rank]), founding.members[rank].id, founding));
  }

  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }

  void stop(int rank, bool lose_in_flight) override {
    const auto stopped = static_cast<std::size_t>(rank);
    groups_[stopped].reset();
    ends_[stopped].links = nullptr;
    for (End& other : ends_)
      if (lose_in_flight && other.links != nullptr)
        for (const UniqueFd& socket : other.watched[ends_[stopped].member]) tcp::discard_received(socket);
    ends_[stopped].watched.clear();
  }

  GroupTransport* join(const View& view, const Positions& done) override {
    std::unique_ptr<tcp::SocketPairs> links = open(view.members.back());
    groups_.push_back(
        std::make_unique<collectives::ScheduleGroup>(std::move(links), view.members.back().id, view, done));
    return groups_.back().get();
  }

 private:
  // The end of all links at one member.
  struct End {
    MemberId member;
    std::uint64_t host = 0;
    tcp::SocketPairs* links = nullptr;  // null: stopped
    // Second descriptors of the sockets to each peer: a process that dies closes its own all at once, and a test may
    // take away what has come through them.
    std::map<MemberId, std::vector<UniqueFd>> watched;
  };

  std::unique_ptr<tcp::SocketPairs> open(const Member& member) {
    auto links = tcp::SocketPairs::create({}).value();
    End own{member.id, member.host, links.get(), {}};
    for (End& peer : ends_)
      if (peer.links != nullptr) connect(own, peer);
    ends_.push_back(std::move(own));
    return links;
  }

  void connect(End& dialing, End& listening) {
    std::vector<UniqueFd> dialed, accepted;
    for (std::uint32_t i = 0; i < kChannelCount * sockets_per_pair_; ++i) {
      Connected pair = shares_memory_ && dialing.host == listening.host ? tcp::connect_locally() : listener_.connect();
      dialing.watched[listening.member].push_back(tcp::duplicate(pair.first));
      listening.watched[dialing.member].push_back(tcp::duplicate(pair.second));
      dialed.push_back(std::move(pair.first));
      accepted.push_back(std::move(pair.second));
    }
    dialing.links->add(listening.member, tcp::Link::create(std::move(dialed)).value());
    listening.links->add(dialing.member, tcp::Link::create(std::move(accepted)).value());
  }

  const std::uint32_t sockets_per_pair_;
  const bool shares_memory_;  // inside a host
  tcp::Listener listener_;
  std::vector<End> ends_;  // by founding rank, and so are the groups
  std::vector<std::unique_ptr<collectives::ScheduleGroup>> groups_;
};

}  // namespace

std::unique_ptr<Job> make_tcp_job(const View& founding) {
  return std::make_unique<TcpJob>(founding, false);
}

std::unique_ptr<Job> make_mixed_job(const View& founding) {
  return std::make_unique<TcpJob>(founding, true);
}

}  // namespace hora::conformance
