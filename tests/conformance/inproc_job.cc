#include "inproc_job.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "collectives/schedule_group.h"
#include "engine/founding_links.h"
#include "transports/inproc/inproc_network.h"

namespace hora::conformance {
namespace {

// One message, so that every schedule meets full links.
constexpr std::size_t kLinkCapacity = 1;

// What the contract of try_receive() allows: each call fills a little more of the memory, and nobody keeps what was
// filled before but the caller.
class TricklingPair final : public PairTransport {
 public:
  explicit TricklingPair(std::unique_ptr<PairTransport> links) : links_(std::move(links)) {}

  void enter(const View& view) override {
    links_->enter(view);
    messages_.clear();
  }
  bool try_send(Rank to, const Tag& tag, std::span<const std::byte> data) override {
    const bool sent = links_->try_send(to, tag, data);
    if (sent) ++moves_;
    return sent;
  }
  Result<bool> try_receive(Rank from, const Tag& tag, std::span<std::byte> data) override {
    std::erase_if(messages_, [&](const auto& entry) {
      return entry.first.second.channel == tag.channel && is_past(entry.first.second, tag);
    });
    auto message = messages_.find({from, tag});
    if (message == messages_.end()) {
      std::vector<std::byte> bytes(data.size());
      auto received = links_->try_receive(from, tag, bytes);
      if (!received.ok() || !received.value()) return received;
      message = messages_.emplace(std::pair(from, tag), Message{std::move(bytes), 0}).first;
    }
    Message& coming = message->second;
    const std::size_t end = std::min(coming.filled + data.size() / kCallsPerMessage + 1, data.size());
    std::copy(coming.bytes.begin() + static_cast<std::ptrdiff_t>(coming.filled),
              coming.bytes.begin() + static_cast<std::ptrdiff_t>(end),
              data.begin() + static_cast<std::ptrdiff_t>(coming.filled));
    coming.filled = end;
    ++moves_;
    if (end < data.size()) return false;
    messages_.erase(message);
    return true;
  }
  void begin_sleep() override { links_->begin_sleep(); }
  void sleep(const std::atomic<std::uint32_t>& wake_word, std::uint32_t seen, Duration timeout) override {
    links_->sleep(wake_word, seen, timeout);
  }
  void end_sleep() override { links_->end_sleep(); }

 private:
  static constexpr std::size_t kCallsPerMessage = 4;
  struct Message {
    std::vector<std::byte> bytes;
    std::size_t filled;
  };
  const std::unique_ptr<PairTransport> links_;
  std::map<std::pair<Rank, Tag>, Message> messages_;
};

class InprocJob final : public Job {
 public:
  InprocJob(const View& founding, bool trickles)
      : trickles_(trickles), members_(founding.members), network_(kLinkCapacity) {
    for (const Member& member : members_)
      groups_.push_back(std::make_unique<collectives::ScheduleGroup>(links_of(member.id), member.id, founding));
  }
  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }
  void stop(int rank, bool lose_in_flight) override {
    network_.drop(members_[static_cast<std::size_t>(rank)].id,
                  lose_in_flight ? inproc::InFlight::lost : inproc::InFlight::kept);
  }
  GroupTransport* join(const View& view, const Positions& done) override {
    const Member& newcomer = members_.emplace_back(view.members.back());
    groups_.push_back(std::make_unique<collectives::ScheduleGroup>(links_of(newcomer.id), newcomer.id, view, done));
    return groups_.back().get();
  }

 private:
  std::unique_ptr<PairTransport> links_of(MemberId member) {
    std::unique_ptr<PairTransport> links = std::make_unique<inproc::InprocPair>(network_, member);
    if (trickles_) links = std::make_unique<TricklingPair>(std::move(links));
    return links;
  }

  const bool trickles_;
  std::vector<Member> members_;  // by founding rank
  inproc::InprocNetwork network_;
  std::vector<std::unique_ptr<collectives::ScheduleGroup>> groups_;
};

// What is lost with the founding network no later view may miss.
class SwitchingJob final : public Job {
 public:
  explicit SwitchingJob(const View& founding)
      : members_(founding.members), founding_network_(kLinkCapacity), later_network_(kLinkCapacity) {
    for (const Member& member : members_) {
      founding_links_.push_back(std::make_unique<inproc::InprocPair>(founding_network_, member.id));
      groups_.push_back(std::make_unique<collectives::ScheduleGroup>(
          std::make_unique<engine::FoundingLinks>(*founding_links_.back(),
                                                  std::make_unique<inproc::InprocPair>(later_network_, member.id)),
          member.id, founding));
    }
  }
  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }
  void stop(int rank, bool lose_in_flight) override {
    const auto in_flight = lose_in_flight ? inproc::InFlight::lost : inproc::InFlight::kept;
    founding_network_.drop(members_[static_cast<std::size_t>(rank)].id, in_flight);
    later_network_.drop(members_[static_cast<std::size_t>(rank)].id, in_flight);
  }
  GroupTransport* join(const View& view, const Positions& done) override {
    const Member& newcomer = members_.emplace_back(view.members.back());
    groups_.push_back(std::make_unique<collectives::ScheduleGroup>(
        std::make_unique<inproc::InprocPair>(later_network_, newcomer.id), newcomer.id, view, done));
    return groups_.back().get();
  }

 private:
  std::vector<Member> members_;  // by founding rank
  inproc::InprocNetwork founding_network_, later_network_;
  std::vector<std::unique_ptr<inproc::InprocPair>> founding_links_;
  std::vector<std::unique_ptr<collectives::ScheduleGroup>> groups_;
};

}  // namespace

std::unique_ptr<Job> make_switching_job(const View& founding) {
  return std::make_unique<SwitchingJob>(founding);
}

std::unique_ptr<Job> make_inproc_job(const View& founding) {
  return std::make_unique<InprocJob>(founding, false);
}

std::unique_ptr<Job> make_trickling_job(const View& founding) {
  return std::make_unique<InprocJob>(founding, true);
}

}  // namespace hora::conformance
