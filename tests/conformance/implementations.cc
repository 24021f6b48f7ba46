#include "implementation.h"
#include "inproc_job.h"
#include "shm_job.h"
#include "tcp_job.h"

namespace hora::conformance {
namespace {

constexpr Implementation kImplementations[] = {
    {"schedules over inproc", make_inproc_job, 7},
    {"shm", make_shm_job, 7},
    {"schedules over tcp", make_tcp_job, 7},
};

}  // namespace

std::span<const Implementation> implementations() {
  return kImplementations;
}

View founding_view(int size) {
  View view;
  view.epoch = Epoch{1};
  for (int rank = 0; rank < size; ++rank)
    view.members.push_back({MemberId{100 + static_cast<std::uint64_t>(rank)}, 1, ""});
  view.config.chunk_bytes = kChunkBytes;
  view.config.one_shot_bytes = kChunkBytes / 4;
  return view;
}

View view_without(const View& view, MemberId member) {
  View next = view;
  next.epoch = Epoch{view.epoch.value + 1};
  std::erase_if(next.members, [&](const Member& other) { return other.id == member; });
  return next;
}

}  // namespace hora::conformance
