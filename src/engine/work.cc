#include "engine/work.h"

#include <fmt/format.h>

#include <cstring>
#include <functional>

namespace hora::engine {

Meaning meaning_of(const Signature& signature, const View& seen) {
  Meaning meaning{seen.epoch, {}, seen.size()};
  if (signature.kind != Collective::broadcast) return meaning;
  if (signature.root.value < 0 || signature.root.value >= seen.size())
    throw Error(Status(StatusCode::invalid_argument,
                       fmt::format("broadcast: root {} is not a rank of {}", signature.root.value, seen.size())));
  meaning.root = seen.members[static_cast<std::size_t>(signature.root.value)].id;
  return meaning;
}

void place_own_part(const Signature& signature, Extent& extent, const View& view, MemberId self) noexcept {
  if (signature.kind != Collective::allgather) return;
  const auto is_before = std::less<const std::byte*>();  // also of what belongs to different arrays
  const std::byte* const target_end = extent.target + static_cast<std::uint64_t>(view.size()) * extent.bytes;
  if (!is_before(extent.source, target_end) || !is_before(extent.target, extent.source + extent.bytes)) return;
  std::byte* const place = extent.target + static_cast<std::uint64_t>(view.rank_of(self)->value) * extent.bytes;
  if (extent.source != place) std::memmove(place, extent.source, extent.bytes);
  extent.source = place;
}

Status bind(Work& work, const View& view) {
  const auto name = [&work] { return work.name.empty() ? "" : fmt::format(" '{}'", work.name); };
  if (work.signature.kind == Collective::allgather && work.meaning.size != view.size())
    return {StatusCode::peer_failed,
            fmt::format("allgather{}: the job went from {} to {} members, so the result has another size than the call "
                        "expects (see on_view_change)",
                        name(), work.meaning.size, view.size())};
  if (work.signature.kind != Collective::broadcast) return {};
  const auto root = view.rank_of(work.meaning.root);
  if (!root)
    return {StatusCode::peer_failed,
            fmt::format("broadcast{}: its root is no longer a member (epoch {})", name(), view.epoch.value)};
  work.signature.root = *root;
  return {};
}

}  // namespace hora::engine
