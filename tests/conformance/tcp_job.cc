#include "tcp_job.h"

#include <array>
#include <stdexcept>
#include <string>
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
  explicit TcpJob(const View& founding) : size_(static_cast<std::size_t>(founding.size())), watched_(size_ * size_) {
    std::vector<std::unique_ptr<tcp::SocketPairs>> links;
    for (std::size_t rank = 0; rank < size_; ++rank) links.push_back(tcp::SocketPairs::create().value());
    tcp::Listener listener;
    for (std::size_t low = 0; low < size_; ++low)
      for (std::size_t high = low + 1; high < size_; ++high) {
        std::array<std::vector<UniqueFd>, 2> ends;
        for (std::uint32_t i = 0; i < kChannelCount * founding.config.sockets_per_pair; ++i) {
          Connected pair = listener.connect();
          watched_[low * size_ + high].push_back(tcp::duplicate(pair.first));
          watched_[high * size_ + low].push_back(tcp::duplicate(pair.second));
          ends[0].push_back(std::move(pair.first));
          ends[1].push_back(std::move(pair.second));
        }
        expect(links[low]->add(founding.members[high].id, std::move(ends[0])));
        expect(links[high]->add(founding.members[low].id, std::move(ends[1])));
      }
    for (std::size_t rank = 0; rank < size_; ++rank)
      groups_.push_back(std::make_unique<collectives::ScheduleGroup>(std::move(links[rank]),
                                                                     founding.members[rank].id, founding));
  }

  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }

  void stop(int rank, bool lose_in_flight) override {
    const auto stopped = static_cast<std::size_t>(rank);
    groups_[stopped].reset();
    for (std::size_t other = 0; other < size_; ++other) {
      if (lose_in_flight)
        for (const UniqueFd& socket : watched_[other * size_ + stopped]) tcp::discard_received(socket);
      watched_[stopped * size_ + other].clear();
    }
  }

 private:
  static void expect(const Status& status) {
    if (!status.ok()) throw std::runtime_error(status.to_string());
  }

  const std::size_t size_;
  // Second descriptors of the ends at the first rank of the links to the second one: a process that dies closes its own
  // all at once, and a test may take away what has come through them.
  std::vector<std::vector<UniqueFd>> watched_;
  std::vector<std::unique_ptr<collectives::ScheduleGroup>> groups_;
};

}  // namespace

std::unique_ptr<Job> make_tcp_job(const View& founding) {
  return std::make_unique<TcpJob>(founding);
}

}  // namespace hora::conformance
