#include "engine/bootstrap.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <fstream>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/entropy.h"
#include "base/machine.h"
#include "base/network_interface.h"
#include "base/sha256.h"
#include "base/socket_address.h"
#include "base/wire.h"
#include "elastic/record.h"
#include "transports/shm/segment.h"

namespace hora::engine {
namespace {

using std::chrono::milliseconds;

// What each rank publishes. All but the member counts of rank 0 only.
struct Founder {
  Member member;
  AgreedConfig config;
  std::optional<Transport> transport;  // what the user asked for
};

void write_founder(wire::Writer& writer, const Founder& founder) {
  elastic::encode(writer, founder.member);
  elastic::encode(writer, founder.config);
  writer.u8(founder.transport ? static_cast<std::uint8_t>(*founder.transport) + 1 : 0);
}

Founder read_founder(wire::Reader& reader) {
  Founder founder;
  founder.member = elastic::decode_member(reader);
  founder.config = elastic::decode_config(reader);
  if (const std::uint8_t asked = reader.below(kTransportCount + 1); asked > 0)
    founder.transport = static_cast<Transport>(asked - 1);
  return founder;
}

std::string encode_text(wire::Writer& writer) {
  const auto bytes = writer.view();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// The one outcome: a view, or why there is none.
std::string encode_outcome(const Result<View>& outcome) {
  wire::Writer writer;
  writer.u8(static_cast<std::uint8_t>(outcome.status().code()));
  writer.string(outcome.status().message());
  if (outcome.ok()) elastic::encode(writer, outcome.value());
  return encode_text(writer);
}

Result<View> decode_outcome(const std::string& text) {
  wire::Reader reader(bytes_of(text));
  const auto code = static_cast<StatusCode>(reader.below(static_cast<std::uint8_t>(StatusCode::internal) + 1));
  std::string message = reader.string();
  if (reader.ok() && code != StatusCode::ok) return Status(code, std::move(message));
  View view = elastic::decode_view(reader);
  if (!reader.finished()) return Status(StatusCode::internal, "the store holds a malformed founding view");
  return view;
}

std::string key_of(const Options& options, std::string_view name) {
  return fmt::format("hora/{}/{}", options.job, name);
}

// By which the launcher, who knows the token of each process it started, can tell whose death it saw.
Status tell_launcher(const Options& options, Store& store, MemberId id) {
  if (options.launch_token.empty()) return {};
  return store.set(key_of(options, "member/" + options.launch_token), fmt::format("{:016x}", id.value));
}

// The transport of a founding view, and whether it reaches everybody.
Result<Transport> choose_transport(const std::vector<Member>& members, std::optional<Transport> asked) {
  std::optional<std::size_t> elsewhere, unreachable;
  for (std::size_t rank = members.size(); rank-- > 0;) {
    if (members[rank].host != members[0].host) elsewhere = rank;
    if (members[rank].address.empty()) unreachable = rank;
  }
  const Transport transport = asked.value_or(elsewhere ? Transport::mixed : Transport::shm);
  if (transport == Transport::shm && elsewhere)
    return Status(StatusCode::unsupported,
                  fmt::format("ranks 0 and {} cannot share memory: they run on different hosts or in different "
                              "namespaces; set HORA_TRANSPORT to mixed or tcp, or not at all",
                              *elsewhere));
  if (unreachable && (transport == Transport::tcp || elsewhere))
    return Status(StatusCode::unsupported,
                  fmt::format("rank {} listens on no TCP address: either all ranks get a HORA_STORE of tcp:HOST:PORT, "
                              "or all get HORA_TRANSPORT=tcp",
                              *unreachable));
  return transport;
}

// One rank's way through the meeting. Keys: size, founder/RANK, arrived (a counter) and outcome, which is decided once.
class Meeting {
 public:
  Meeting(const Options& options, Store& store, const Clock& clock) : options_(options), store_(store), clock_(clock) {}

  Result<View> attend(const Founder& self) {
    const TimePoint deadline = clock_.now() + milliseconds(options_.start_timeout_ms);
    auto accepted = enter(self);
    if (!accepted.ok()) return accepted.status();
    if (!accepted->empty()) return reject(*accepted);
    auto arrived = store_.add(key("arrived"), 1);
    if (!arrived.ok()) return arrived.status();
    if (*arrived == options_.size) return decide(compose());
    const auto left = std::max(deadline - clock_.now(), Duration(milliseconds(1)));
    const auto outcome = store_.wait(key("outcome"), left);
    if (outcome.ok()) return decode_outcome(outcome.value());
    if (outcome.status().code() != StatusCode::timed_out) return outcome.status();
    // Either some did not come, or the last one died before it could put the view together.
    return decide(compose());
  }

 private:
  [[nodiscard]] std::string key(std::string_view name) const { return key_of(options_, name); }
  [[nodiscard]] std::string founder_key(int rank) const { return key(fmt::format("founder/{}", rank)); }

  // Publishes this rank. Not empty: why it cannot be part of the job.
  Result<std::string> enter(const Founder& self) {
    if (options_.rank < 0 || options_.rank >= options_.size)
      return fmt::format("a rank was started with HORA_RANK={} and HORA_SIZE={}: ranks are 0 to {}", options_.rank,
                         options_.size, options_.size - 1);
    const std::string size = fmt::format("{}", options_.size);
    auto first = store_.compare_and_swap(key("size"), std::nullopt, size);
    if (!first.ok()) return first.status();
    if (!*first) {
      auto theirs = store_.get(key("size"));
      if (!theirs.ok()) return theirs.status();
      if (theirs.value() != size)
        return fmt::format("rank {} was started with HORA_SIZE={}, others with HORA_SIZE={}", options_.rank, size,
                           theirs->value_or("nothing"));
    }
    wire::Writer writer;
    write_founder(writer, self);
    auto published = store_.compare_and_swap(founder_key(options_.rank), std::nullopt, encode_text(writer));
    if (!published.ok()) return published.status();
    if (!*published)
      return fmt::format("two processes are rank {} of job \"{}\" (HORA_RANK, or HORA_JOB was used before)",
                         options_.rank, options_.job);
    return std::string();
  }

  // This rank is wrong whatever the others agree on; as long as nothing is decided, they hear of it too.
  Status reject(const std::string& why) {
    const Status wrong(StatusCode::invalid_argument, why);
    (void)decide(wrong);
    return wrong;
  }

  // The view of all that came, or who did not.
  Result<View> compose() {
    View view;
    view.epoch = Epoch{1};
    std::vector<int> missing, without_mpi;
    std::optional<Transport> asked;
    for (int rank = 0; rank < options_.size; ++rank) {
      auto record = store_.get(founder_key(rank));
      if (!record.ok()) return record.status();
      if (!record.value()) {
        missing.push_back(rank);
        continue;
      }
      wire::Reader reader(bytes_of(**record));
      Founder founder = read_founder(reader);
      view.members.push_back(std::move(founder.member));
      if (rank == 0) {
        view.config = founder.config;
        asked = founder.transport;
      }
      if ((founder.transport == Transport::mpi) != (asked == Transport::mpi)) without_mpi.push_back(rank);
      if (!reader.finished())
        return Status(StatusCode::internal, fmt::format("the store holds a malformed record of rank {}", rank));
    }
    if (!without_mpi.empty() && missing.empty())
      return Status(StatusCode::invalid_argument,
                    fmt::format("HORA_TRANSPORT=mpi is for all ranks or none: {} rank 0, unlike rank {}",
                                asked == Transport::mpi ? "set for" : "not set for", without_mpi.front()));
    if (missing.empty()) {
      auto transport = choose_transport(view.members, asked);
      if (!transport.ok()) return transport.status();
      view.config.transport = *transport;
      return view;
    }
    return Status(StatusCode::timed_out,
                  fmt::format("rank{} {} did not come within {} ms (HORA_START_TIMEOUT_MS); {} of {} ranks did",
                              missing.size() > 1 ? "s" : "", fmt::join(missing, ", "), options_.start_timeout_ms,
                              view.members.size(), options_.size));
  }

  // The outcome that stands: this one, or the one that was there first.
  Result<View> decide(const Result<View>& proposed) {
    auto mine = store_.compare_and_swap(key("outcome"), std::nullopt, encode_outcome(proposed));
    if (!mine.ok()) return proposed.ok() ? mine.status() : proposed.status();
    if (*mine) return proposed;
    auto theirs = store_.get(key("outcome"));
    if (!theirs.ok()) return theirs.status();
    return decode_outcome(theirs->value_or(""));
  }

  const Options& options_;
  Store& store_;
  const Clock& clock_;
};

Status validate(const Options& options, const Store* store) {
  if (options.size < 1) return {StatusCode::invalid_argument, fmt::format("HORA_SIZE is {}", options.size)};
  if (options.size == 1 && options.rank != 0)
    return {StatusCode::invalid_argument, fmt::format("HORA_RANK is {}, but HORA_SIZE is 1", options.rank)};
  if (options.min_size > static_cast<std::uint32_t>(options.size))
    return {StatusCode::invalid_argument,
            fmt::format("HORA_MIN_SIZE is {}, more than HORA_SIZE {}", options.min_size, options.size)};
  if (options.size > 1 && store == nullptr)
    return {StatusCode::invalid_argument, "HORA_STORE is not set: more than one rank need a store to meet at"};
  return {};
}

}  // namespace

MemberId new_member_id() {
  return MemberId{entropy64()};
}

Result<std::uint64_t> this_host() {
  std::string identity;
  std::ifstream boot_id("/proc/sys/kernel/random/boot_id");
  if (!std::getline(boot_id, identity)) return system_error("cannot read /proc/sys/kernel/random/boot_id", errno);
  for (const char* name : {"pid", "net", "ipc"}) {
    std::array<char, 64> target;
    const std::string path = fmt::format("/proc/self/ns/{}", name);
    const ssize_t bytes = ::readlink(path.c_str(), target.data(), target.size());
    if (bytes <= 0) return Status(StatusCode::resource, fmt::format("cannot read {}", path));
    identity += fmt::format(" {}", std::string_view(target.data(), static_cast<std::size_t>(bytes)));
  }
  const Digest digest = sha256(bytes_of(identity));
  wire::Reader reader(digest);
  return reader.u64();
}

Result<std::string> own_tcp_host(const Options& options) {
  const bool store_is_tcp = options.store.starts_with("tcp:");
  if (!store_is_tcp && options.transport != Transport::tcp) return std::string();
  std::string towards_store;
  if (store_is_tcp) {
    auto host = local_host_towards(options.store);
    if (!host.ok()) return Status(host.status().code(), fmt::format("HORA_STORE: {}", host.status().message()));
    towards_store = std::move(*host);
  }
  if (options.socket_interface.empty()) return store_is_tcp ? towards_store : std::string("127.0.0.1");
  const auto addresses = interface_addresses();
  if (!addresses.ok()) return addresses.status();
  return choose_host(options.socket_interface, addresses.value(), towards_store);
}

Result<Founding> agree(const Options& options, Store* store, const Clock& clock, const Member& self) {
  HORA_TRY(validate(options, store));
  Founder founder;
  founder.member = self;
  founder.config.min_size = options.min_size;
  founder.config.silence_ms = options.silence_ms;
  founder.config.fusion_bytes = options.fusion_bytes;
  founder.config.chunk_bytes =
      shm::choose_layout(last_level_cache_bytes(), options.chunk_bytes, options.one_shot_bytes).chunk_bytes;
  founder.config.one_shot_bytes = options.one_shot_bytes;
  founder.config.sockets_per_pair = options.sockets_per_pair;
  founder.transport = options.transport;
  if (store == nullptr) {
    founder.config.transport = options.transport.value_or(Transport::shm);
    View view{Epoch{1}, {self}, Decider::members, founder.config};
    return Founding{std::move(view), Rank{0}};
  }
  HORA_TRY(tell_launcher(options, *store, self.id));
  auto view = Meeting(options, *store, clock).attend(founder);
  if (!view.ok()) return view.status();
  const auto rank = view->rank_of(self.id);
  if (!rank || view->size() != options.size)
    return Status(StatusCode::internal, "the founding view does not contain this rank");
  return Founding{std::move(*view), *rank};
}

namespace {

// Takes the next free number of a newcomer. The keys joiner/1, joiner/2, ... are taken one after the other, each
// together with its content: who has number K finds all before it. The counter `joiners` only tells where to begin.
Result<std::int64_t> enlist(const Options& options, Store& store, const Member& self) {
  wire::Writer writer;
  elastic::encode(writer, self);
  const std::string record = encode_text(writer);
  auto taken = store.add(key_of(options, "joiners"), 0);
  if (!taken.ok()) return taken.status();
  for (std::int64_t number = *taken + 1;; ++number) {
    auto mine = store.compare_and_swap(key_of(options, fmt::format("joiner/{}", number)), std::nullopt, record);
    if (!mine.ok()) return mine.status();
    if (!*mine) continue;
    auto counted = store.add(key_of(options, "joiners"), 1);
    if (!counted.ok()) return counted.status();
    return number;
  }
}

// Whether this newcomer can be reached by, and reach, the members of the job.
Status check_reach(const RunningJob& job, const Member& self) {
  const bool elsewhere = std::any_of(job.members.begin(), job.members.end(),
                                     [&](const Member& member) { return member.host != self.host; });
  if (job.config.transport == Transport::shm && elsewhere)
    return {StatusCode::unsupported,
            "this process cannot share memory with the job, whose transport is shm: it runs on a different host or in "
            "a different namespace (HORA_TRANSPORT of rank 0)"};
  if (self.address.empty() && (job.config.transport == Transport::tcp || elsewhere))
    return {StatusCode::unsupported,
            "this process listens on no TCP address: give it a HORA_STORE of tcp:HOST:PORT or HORA_TRANSPORT=tcp"};
  return {};
}

}  // namespace

Result<RunningJob> find_members(const Options& options, Store& store, const Clock& clock, const Member& self) {
  const TimePoint deadline = clock.now() + milliseconds(options.start_timeout_ms);
  HORA_TRY(tell_launcher(options, store, self.id));
  const auto outcome = store.wait(key_of(options, "outcome"), deadline - clock.now());
  if (outcome.status().code() == StatusCode::timed_out)
    return Status(StatusCode::timed_out,
                  fmt::format("job \"{}\" was not founded within {} ms (HORA_START_TIMEOUT_MS): {}", options.job,
                              options.start_timeout_ms, outcome.status().message()));
  if (!outcome.ok()) return outcome.status();
  auto view = decode_outcome(outcome.value());
  if (!view.ok())
    return Status(view.status().code(), fmt::format("the job did not start: {}", view.status().message()));
  RunningJob job{view->config, std::move(view->members)};
  HORA_TRY(check_reach(job, self));
  auto number = enlist(options, store, self);
  if (!number.ok()) return number.status();
  for (std::int64_t earlier = 1; earlier < *number; ++earlier) {
    auto record = store.get(key_of(options, fmt::format("joiner/{}", earlier)));
    if (!record.ok()) return record.status();
    const std::string text = record->value_or("");
    wire::Reader reader(bytes_of(text));
    job.members.push_back(elastic::decode_member(reader));
    if (!reader.finished())
      return Status(StatusCode::internal, fmt::format("the store holds a malformed record of newcomer {}", earlier));
  }
  return job;
}

}  // namespace hora::engine
