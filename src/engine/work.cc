#include "engine/work.h"

#include <fmt/format.h>

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

}  // namespace hora::engine
