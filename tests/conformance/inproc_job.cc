#include "inproc_job.h"

#include <vector>

#include "collectives/schedule_group.h"
#include "transports/inproc/inproc_network.h"

namespace hora::conformance {
namespace {

// One message, so that every schedule meets full links.
constexpr std::size_t kLinkCapacity = 1;

class InprocJob final : public Job {
 public:
  explicit InprocJob(const View& founding) : founding_(founding), network_(kLinkCapacity) {
    for (const Member& member : founding_.members)
      groups_.push_back(std::make_unique<collectives::ScheduleGroup>(
          std::make_unique<inproc::InprocPair>(network_, member.id), member.id, founding_));
  }
  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }
  void stop(int rank, bool lose_in_flight) override {
    network_.drop(founding_.members[static_cast<std::size_t>(rank)].id,
                  lose_in_flight ? inproc::InFlight::lost : inproc::InFlight::kept);
  }

 private:
  const View founding_;
  inproc::InprocNetwork network_;
  std::vector<std::unique_ptr<collectives::ScheduleGroup>> groups_;
};

}  // namespace

std::unique_ptr<Job> make_inproc_job(const View& founding) {
  return std::make_unique<InprocJob>(founding);
}

}  // namespace hora::conformance
