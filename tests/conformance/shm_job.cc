#include "shm_job.h"

#include <vector>

#include "transports/shm/group.h"
#include "transports/shm/segment.h"

namespace hora::conformance {
namespace {

class ShmJob final : public Job {
 public:
  explicit ShmJob(const View& founding) {
    const shm::SegmentLayout layout =
        shm::choose_layout(0, founding.config.chunk_bytes, founding.config.one_shot_bytes);
    for (const Member& member : founding.members) {
      auto segment = shm::Segment::create(member.id, layout);
      segments_.push_back(std::move(segment).value());
    }
    std::vector<const shm::Segment*> members;
    for (const auto& segment : segments_) {
      peers_.push_back(shm::Segment::attach_in_process(*segment));
      members.push_back(peers_.back().get());
    }
    for (const auto& segment : segments_)
      groups_.push_back(std::make_unique<shm::ShmGroup>(*segment, members, founding));
  }
  GroupTransport& group(int rank) override { return *groups_[static_cast<std::size_t>(rank)]; }
  // What a rank has written to its segment outlives it.
  void stop(int, bool) override {}

 private:
  std::vector<std::unique_ptr<shm::Segment>> segments_;  // outlive the groups, and so do peers_
  std::vector<std::unique_ptr<shm::Segment>> peers_;
  std::vector<std::unique_ptr<shm::ShmGroup>> groups_;
};

}  // namespace

std::unique_ptr<Job> make_shm_job(const View& founding) {
  return std::make_unique<ShmJob>(founding);
}

}  // namespace hora::conformance
