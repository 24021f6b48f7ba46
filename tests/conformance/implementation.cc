#include "implementation.h"

#include <fmt/format.h>

namespace hora::conformance {

std::vector<Implementation> elastic_implementations() {
  std::vector<Implementation> elastic;
  std::string_view fixed;
  for (const Implementation& implementation : implementations()) {
    if (implementation.fixed.empty())
      elastic.push_back(implementation);
    else
      fixed = implementation.fixed;
  }
  if (elastic.empty()) fmt::print("SKIPPED: {}\n", fixed);
  return elastic;
}

MemberId founding_member(int rank) {
  return MemberId{100 + static_cast<std::uint64_t>(rank)};
}

View founding_view(const Implementation& implementation, int size) {
  View view;
  view.epoch = Epoch{1};
  for (int rank = 0; rank < size; ++rank)
    view.members.push_back({founding_member(rank), implementation.host_of(rank, size), ""});
  view.config.chunk_bytes = kChunkBytes;
  view.config.transport = implementation.transport;
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
