#include "engine/outlook.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

#include "base/machine.h"
#include "collectives/algorithms.h"
#include "transports/control/peer_link.h"
#include "transports/shm/segment.h"

namespace hora::engine {
namespace {

std::string in_binary_units(std::uint64_t bytes) {
  if (bytes >= 1 << 20) return fmt::format("{} MiB", bytes >> 20);
  return bytes >= 1 << 10 ? fmt::format("{} KiB", bytes >> 10) : fmt::format("{} B", bytes);
}

std::pair<Transport, std::string> choose(const Options& options) {
  if (options.transport) return {*options.transport, "HORA_TRANSPORT asks for it"};
  const int local = options.local_size.value_or(options.size);
  if (options.size == 1) return {Transport::shm, "a job of one rank"};
  if (local < options.size)
    return {Transport::mixed,
            fmt::format("shared memory for the {} of {} ranks on each host, TCP between hosts", local, options.size)};
  if (!options.local_size)
    return {Transport::shm, fmt::format("if all {} ranks are on this host, else mixed", options.size)};
  return {Transport::shm, fmt::format("all {} ranks are on this host", options.size)};
}

std::string shm_schedule(const Options& options) {
  const shm::SegmentLayout layout =
      shm::choose_layout(last_level_cache_bytes(), options.chunk_bytes, options.one_shot_bytes);
  return fmt::format("allreduce in one shot to {}, beyond in two, by chunks of {} (last-level cache of {})",
                     in_binary_units(shm::choose_one_shot_bytes(options.size, options.one_shot_bytes, layout)),
                     in_binary_units(layout.chunk_bytes), in_binary_units(last_level_cache_bytes()));
}

// Where the choice changes, over the powers of two.
std::string link_schedule(const Options& options, Transport transport) {
  const int local = transport == Transport::tcp ? 1 : options.local_size.value_or(1);
  std::vector<int> hosts;
  for (int rank = 0; rank < options.size; ++rank) hosts.push_back(rank / std::max(1, local));
  constexpr std::uint64_t kMost = std::uint64_t{1} << 30;
  std::string text = "allreduce";
  std::string_view before;
  for (std::uint64_t bytes = 4; bytes <= kMost; bytes *= 2) {
    const std::string_view name =
        collectives::select(Collective::allreduce, options.size, hosts, DataType::float32, bytes).name;
    if (!before.empty() && name != before) text += fmt::format(" {} to {},", before, in_binary_units(bytes / 2));
    before = name;
  }
  return fmt::format("{} {}{}", text, before, text.ends_with(',') ? " beyond" : "");
}

}  // namespace

Outlook describe_outlook(const Options& options) {
  const auto [transport, why] = choose(options);
  const bool shared = transport == Transport::shm || options.size == 1;
  // The link and, on the same host, its process and its shared memory.
  constexpr int kLinkFiles = 3;
  const AgreedConfig config{.transport = transport, .sockets_per_pair = options.sockets_per_pair};
  return {fmt::format("{}: {}", to_string(transport), why),
          shared ? shm_schedule(options) : link_schedule(options, transport),
          kLinkFiles + static_cast<int>(control::data_sockets_of(config))};
}

}  // namespace hora::engine
