#include "inproc_job.h"

#include <vector>

#include "collectives/schedule_group.h"
#include "engine/founding_links.h"
#include "transports/inproc/inproc_network.h"

namespace hora::conformance {
namespace {

// One message, so that every schedule meets full links.
constexpr std::size_t kLinkCapacity = 1;

class InprocJob final : public Job {
 public:
  explicit InprocJob(const View& founding) : members_(founding.members), network_(kLinkCapacity) {
    for (const Member& member : members_)
      groups_.push_back(std::make_unique<collectives::ScheduleGroup>(
          std::make_unique<inproc::InprocPair>(network_, member.id), member.id, founding));
  }
  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }
  void stop(int rank, bool lose_in_flight) override {
    network_.drop(members_[static_cast<std::size_t>(rank)].id,
                  lose_in_flight ? inproc::InFlight::lost : inproc::InFlight::kept);
  }
  GroupTransport* join(const View& view, const Positions& done) override {
    const Member& newcomer = members_.emplace_back(view.members.back());
    groups_.push_back(std::make_unique<collectives::ScheduleGroup>(
        std::make_unique<inproc::InprocPair>(network_, newcomer.id), newcomer.id, view, done));
    return groups_.back().get();
  }

 private:
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
  return std::make_unique<InprocJob>(founding);
}

}  // namespace hora::conformance
